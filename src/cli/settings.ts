// What the daemon of this host is told: flags behind "--", then variables of this shell, then those of the service.

import { readFileSync } from 'node:fs';
import { parseFlags } from '../config/flag-parser.js';
import type { Flags } from '../config/flags.js';

export const SERVICE_SETTINGS = '/etc/default/twilld';

/** Variables of a file as systemd reads it (EnvironmentFile=, systemd.exec(5)), as far as settings of ours need it. */
export function parseEnvironmentFile(text: string): Record<string, string> {
  const values: Record<string, string> = {};
  for (const line of text.replace(/\\\n/g, '').split('\n')) {
    const match = /^\s*([A-Za-z_]\w*)\s*=\s*(.*?)\s*$/.exec(line);
    if (match === null || /^\s*[#;]/.test(line)) continue;
    const [, name, value] = match;
    values[name] = /^(["'])(.*)\1$/.exec(value)?.[2] ?? value;
  }
  return values;
}

export interface Settings {
  readonly flags: Flags;
  /** Why the service's file could not be read, or what is wrong in it; the flags are without it then. */
  readonly fault?: { readonly text: string; readonly isForbidden: boolean };
}

/** One variable of the service; undefined where there is none, or we may not read it. */
export function serviceVariable(name: string): string | undefined {
  try {
    return parseEnvironmentFile(readFileSync(SERVICE_SETTINGS, 'utf8'))[name];
  } catch {
    return undefined;
  }
}

/** Throws OverlayError E_USAGE for a wrong flag behind "--" or in this shell. */
export function readSettings(
  args: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
  path = SERVICE_SETTINGS,
): Settings {
  const ofShell = flagsOf(args, env);
  try {
    return { flags: flagsOf(args, { ...parseEnvironmentFile(readFileSync(path, 'utf8')), ...env }) };
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return { flags: ofShell };
    return { flags: ofShell, fault: { text: `${path}: ${message}`, isForbidden: code === 'EACCES' } };
  }
}

function flagsOf(args: readonly string[], env: Readonly<Record<string, string | undefined>>): Flags {
  const parsed = parseFlags(args, env);
  if (parsed.kind !== 'run') throw new RangeError('expected flags of a daemon that runs');
  return parsed.flags;
}
