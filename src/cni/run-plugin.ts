// Runs another CNI plugin, found in CNI_PATH, with a configuration on its stdin.

import { spawnSync } from 'node:child_process';
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { CNI_ERROR, CniError } from './cni-error.js';
import { type Command, isObject, type JsonObject } from './request.js';

const MAX_OUTPUT_BYTES = 8 << 20;

function findPlugin(type: unknown, path: readonly string[]): string {
  if (typeof type !== 'string' || !/^[^/\s]+$/.test(type) || type === '.' || type === '..') {
    throw new CniError(
      CNI_ERROR.badConfig,
      `delegate type is ${JSON.stringify(type)}: expected a plugin's name`,
    );
  }
  const found = path.map((folder) => join(folder, type)).find((file) => isFile(file));
  if (found === undefined) {
    throw new CniError(CNI_ERROR.io, `failed to find plugin "${type}" in path [${path.join(' ')}]`);
  }
  return found;
}

function isFile(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isFile() ?? false;
}

/** Runs the plugin that `delegate.type` names and returns its stdout. Throws CniError with the plugin's own code. */
export function runPlugin(
  command: Command,
  delegate: JsonObject,
  path: readonly string[],
  env: NodeJS.ProcessEnv,
): string {
  const plugin = findPlugin(delegate['type'], path);
  const { status, signal, stdout, stderr, error } = spawnSync(plugin, [], {
    input: JSON.stringify(delegate),
    env: { ...env, CNI_COMMAND: command },
    encoding: 'utf8',
    maxBuffer: MAX_OUTPUT_BYTES,
  });
  if (stderr) process.stderr.write(stderr);
  if (error === undefined && status === 0) return stdout;
  const reported = parseError(stdout);
  const why =
    reported?.msg ?? error?.message ?? (signal === null ? `exit code ${status}` : `ended by ${signal}`);
  throw new CniError(
    reported?.code ?? CNI_ERROR.internal,
    `failed to delegate ${command.toLowerCase()}: ${plugin}: ${why}`,
    reported?.details,
  );
}

/** Whether the plugin speaks a version of the specification. */
export function speaks(
  delegate: JsonObject,
  version: string,
  path: readonly string[],
  env: NodeJS.ProcessEnv,
): boolean {
  try {
    const answer: unknown = JSON.parse(runPlugin('VERSION', delegate, path, env));
    const versions = isObject(answer) ? answer['supportedVersions'] : undefined;
    return Array.isArray(versions) && versions.includes(version);
  } catch (error) {
    if (error instanceof CniError && error.code === CNI_ERROR.io) throw error; // it is not there at all
    return false;
  }
}

function parseError(stdout: string): { code: number; msg: string; details: string } | undefined {
  try {
    const value: unknown = JSON.parse(stdout);
    if (!isObject(value) || typeof value['code'] !== 'number') return undefined;
    const part = (key: string): string => (typeof value[key] === 'string' ? value[key] : '');
    return { code: value['code'], msg: part('msg'), details: part('details') };
  } catch {
    return undefined; // it died before it could say why
  }
}
