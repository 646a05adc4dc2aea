// The stand-in as a program, for labs: `node --import tsx main.ts '<options as JSON>'` in a network namespace.
//
// It writes credentials into a folder, takes commands as JSON lines on <dir>/control.sock, which is reached from any
// network namespace, and says "listening on <url>" once it does. Ends with SIGTERM.

import { mkdirSync, rmSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { ApiServer, type ApiServerOptions } from '../api-server.js';
import { type Command, type Controls, controlsOf, type Outcome } from './controls.js';
import { writeCredentials } from './credentials.js';
import type { ClusterCidr } from './pod-cidrs.js';

/** What the program is given. */
export interface ProgramOptions extends Omit<ApiServerOptions, 'clock' | 'now'> {
  /** Where its files are put; made when it is not there. */
  readonly dir: string;
  /** Nodes without a podCIDR are given one. */
  readonly clusterCidrs?: readonly ClusterCidr[];
}

async function run(controls: Controls, { id, do: name, with: values }: Command): Promise<Outcome> {
  const command = (controls as unknown as Record<string, ((...args: unknown[]) => unknown) | undefined>)[
    name
  ];
  if (command === undefined) return { id, error: `no command "${name}"` };
  try {
    // JSON has no undefined: an argument that is left out comes as null.
    const args = values.map((value) => value ?? undefined);
    return { id, result: await command(...args) };
  } catch (error) {
    return { id, error: (error as Error).message };
  }
}

function serve(controls: Controls, socket: Socket): void {
  socket.on('error', () => socket.destroy());
  createInterface({ input: socket }).on('line', (line) => {
    void run(controls, JSON.parse(line) as Command).then((outcome) => {
      if (!socket.destroyed) socket.write(`${JSON.stringify(outcome)}\n`);
    });
  });
}

const options = JSON.parse(process.argv[2]) as ProgramOptions;
mkdirSync(options.dir, { recursive: true });
const server = await ApiServer.open(options);
const ca = options.scheme === 'http' ? undefined : server.authority.cert;
writeCredentials(options.dir, server.url, ca, server.tokens);
if (options.clusterCidrs !== undefined) server.assignPodCidrs(options.clusterCidrs);
const controls = controlsOf(server, options.dir);
const path = join(options.dir, 'control.sock');
rmSync(path, { force: true });
const listener = createServer((socket) => serve(controls, socket));
await new Promise<void>((resolve) => listener.listen(path, resolve));
process.once('SIGTERM', () => {
  controls.close();
  void server.close().then(() => process.exit(0));
});
console.log(`listening on ${server.url}`);
