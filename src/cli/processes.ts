// Other processes of this host, as far as /proc shows them to whoever asks.

import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { basename } from 'node:path';
import { fileURLToPath } from 'node:url';

export interface Process {
  readonly pid: number;
  /** Program and arguments. */
  readonly command: readonly string[];
}

/** Whether it is a daemon of this name, run by itself or by an interpreter such as node. */
export function isProgram({ command }: Process, name: string): boolean {
  return command.slice(0, 2).some((word) => basename(word) === name);
}

const OWN_MAIN = fileURLToPath(new URL('../main.js', import.meta.url));

/** The daemon of this package: by its installed name, as the package's main program, or as the one beside this file. */
export function isTwilld(process: Process): boolean {
  const script = process.command[1] ?? '';
  return isProgram(process, 'twilld') || script === OWN_MAIN || script.endsWith('/twill/dist/main.js');
}

/** Processes whose command can be read. */
export function listProcesses(): Process[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => {
      const command = readWords(`/proc/${name}/cmdline`);
      return command === undefined || command.length === 0 ? [] : [{ pid: Number(name), command }];
    });
}

/** Variables a process was started with; undefined when we may not see them. */
export function environmentOf({ pid }: Process): Record<string, string> | undefined {
  const words = readWords(`/proc/${pid}/environ`);
  return words && Object.fromEntries(words.map((word) => splitAtFirst(word, '=')));
}

/** Inodes of the sockets of this network namespace that have a UDP port (proc_net(5)). */
export function udpSockets(port: number): string[] {
  const wanted = port.toString(16).toUpperCase().padStart(4, '0');
  return ['/proc/net/udp', '/proc/net/udp6']
    .filter((path) => existsSync(path)) // a kernel may be without IPv6
    .flatMap((path) => readFileSync(path, 'utf8').split('\n'))
    .map((line) => line.trim().split(/\s+/))
    .filter((fields) => fields[1]?.endsWith(`:${wanted}`))
    .map((fields) => fields[9] ?? '');
}

/** Who holds one of these sockets; undefined when nobody we may look at does. */
export function holderOf(inodes: readonly string[]): Process | undefined {
  const links = new Set(inodes.map((inode) => `socket:[${inode}]`));
  return listProcesses().find(({ pid }) => {
    try {
      return readdirSync(`/proc/${pid}/fd`).some((fd) => links.has(linkOf(`/proc/${pid}/fd/${fd}`)));
    } catch {
      return false; // ended, or not ours to look at
    }
  });
}

function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return ''; // closed meanwhile
  }
}

function readWords(path: string): string[] | undefined {
  try {
    return readFileSync(path, 'utf8')
      .split('\0')
      .filter((word) => word !== '');
  } catch {
    return undefined;
  }
}

function splitAtFirst(text: string, separator: string): [string, string] {
  const at = text.indexOf(separator);
  return at < 0 ? [text, ''] : [text.slice(0, at), text.slice(at + 1)];
}
