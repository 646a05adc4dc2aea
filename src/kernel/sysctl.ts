// Kernel settings under /proc/sys. Paths are built from a fixed table of families and keys and a checked interface
// name, never from free text.

import { readFile, writeFile } from 'node:fs/promises';
import { checkInterfaceName, isInterfaceName } from './interface-name.js';
import { OverlayError } from '../core/errors.js';

const KEY = /^[a-z0-9_]+(\/[a-z0-9_]+)*$/;

/** Reads `/proc/sys/<key>`, such as "net/ipv4/ip_forward"; undefined when this kernel or namespace has no such key. */
export async function readSysctl(key: string): Promise<string | undefined> {
  return await readPath(pathOf(key));
}

/** Writes `/proc/sys/<key>`. Rejects with OverlayError E_KERNEL. */
export async function writeSysctl(key: string, value: string): Promise<void> {
  await writePath(pathOf(key), value);
}

/** Reads a per-interface setting; undefined when there is none (no such interface, or IPv6 is off in the kernel). */
export async function readInterfaceSysctl(
  family: 'ipv4' | 'ipv6',
  interfaceName: string,
  key: string,
): Promise<string | undefined> {
  return await readPath(interfacePathOf(family, interfaceName, key));
}

/** Those of these interfaces on which IPv6 is switched off; what cannot be asked is none of them. */
export async function findWithoutIpv6(names: readonly string[]): Promise<readonly string[]> {
  const known = names.filter(isInterfaceName);
  const values = await Promise.all(
    known.map((name) => readInterfaceSysctl('ipv6', name, 'disable_ipv6').catch(() => undefined)),
  );
  return known.filter((_, i) => values[i] === '1');
}

/**
 * Writes a per-interface setting, such as ("ipv6", "flannel.1", "accept_ra", "0").
 * Resolves with false when it cannot be had: a kernel without IPv6 has no such file, and in a container that is not
 * privileged /proc/sys is mounted read-only.
 * Rejects with OverlayError E_KERNEL when the kernel refuses the value.
 */
export async function writeInterfaceSysctl(
  family: 'ipv4' | 'ipv6',
  interfaceName: string,
  key: string,
  value: string,
): Promise<boolean> {
  const path = interfacePathOf(family, interfaceName, key);
  if ((await readPath(path)) === value) return true;
  try {
    await writePath(path, value);
    return true;
  } catch (error) {
    if (error instanceof OverlayError && (isMissing(error.cause) || isReadOnly(error.cause))) return false;
    throw error;
  }
}

function pathOf(key: string): string {
  if (!KEY.test(key))
    throw new TypeError(`Sysctl key ${JSON.stringify(key)}: expected lower-case words joined by "/"`);
  return `/proc/sys/${key}`;
}

function interfacePathOf(family: 'ipv4' | 'ipv6', interfaceName: string, key: string): string {
  if (!KEY.test(key)) throw new TypeError(`Sysctl key ${JSON.stringify(key)}: expected lower-case words`);
  return `/proc/sys/net/${family}/conf/${checkInterfaceName(interfaceName)}/${key}`;
}

async function readPath(path: string): Promise<string | undefined> {
  try {
    return (await readFile(path, 'utf8')).trim();
  } catch (cause) {
    if (isMissing(cause)) return undefined;
    throw new OverlayError('E_KERNEL', `Cannot read ${path}: ${(cause as Error).message}`, { cause });
  }
}

async function writePath(path: string, value: string): Promise<void> {
  try {
    await writeFile(path, value, { flag: 'r+' });
  } catch (cause) {
    throw new OverlayError('E_KERNEL', `Cannot write "${value}" to ${path}: ${(cause as Error).message}`, {
      cause,
    });
  }
}

function isReadOnly(error: unknown): boolean {
  return (error as NodeJS.ErrnoException | undefined)?.code === 'EROFS';
}

function isMissing(error: unknown): boolean {
  return (error as NodeJS.ErrnoException | undefined)?.code === 'ENOENT';
}
