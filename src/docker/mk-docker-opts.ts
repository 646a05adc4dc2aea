#!/usr/bin/env node
// The program mk-docker-opts: reads subnet.env, writes Docker's options, and warns of a route that another host left
// for our subnet, which would draw Docker's traffic away. Exit 0, or 1 with a reason on stderr.

import { readFile, writeFile } from 'node:fs/promises';
import { runCommand } from '../kernel/command.js';
import {
  formatDockerOpts,
  parseAssignments,
  parseDockerOptsArguments,
  subnetBase,
  USAGE,
} from './docker-opts.js';

async function main(): Promise<number> {
  const settings = parseDockerOptsArguments(process.argv.slice(2));
  if (settings === undefined) {
    process.stderr.write(USAGE);
    return 1;
  }
  const variables = new Map<string, string>();
  for (const [name, value] of Object.entries(process.env))
    if (value !== undefined) variables.set(name, value);
  try {
    const text = await readFile(settings.subnetFile, 'utf8');
    for (const [name, value] of parseAssignments(text)) variables.set(name, value);
  } catch (error) {
    // Units run this before the daemon has written the file, and expect a file without options.
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  await writeFile(settings.outputFile, formatDockerOpts(variables, settings));

  const base = subnetBase(variables.get('FLANNEL_SUBNET') ?? '');
  if (base !== undefined && (await hasGatewayRoute(base))) {
    process.stderr.write(`Your routing table already contains the subnet: ${base}\n`);
    return 1;
  }
  return 0;
}

async function hasGatewayRoute(prefix: string): Promise<boolean> {
  const routes = (await runCommand('ip', ['route', 'show'])).stdout.split('\n');
  return routes.some((route) => route.startsWith(`${prefix} via `));
}

try {
  process.exitCode = await main();
} catch (error) {
  process.stderr.write(`${(error as Error).message}\n`);
  process.exitCode = 1;
}
