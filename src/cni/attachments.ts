// The configuration an attachment was made with, kept until it is undone: DEL must undo what ADD did, whatever the
// network configuration and subnet.env say by then.
//
// One file for each attachment: <dataDir>/<container id> for eth0, as flannel's plugin names it, so that either plugin
// undoes what the other did; <container id>:<interface> for any other, so that two attachments do not share one.

import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { makeFolder, replaceFileSync } from '../core/files.js';
import { CNI_ERROR, CniError } from './cni-error.js';
import { isObject, type JsonObject } from './request.js';

const FIRST_INTERFACE = 'eth0';

const UNFINISHED = '~';

export interface SavedAttachment {
  readonly path: string;
  /** The delegate's configuration; undefined when the file holds something else. */
  readonly delegate: JsonObject | undefined;
}

function nameOf(containerId: string, ifname: string): string {
  return ifname === FIRST_INTERFACE ? containerId : `${containerId}:${ifname}`;
}

/** Keeps the configuration, in one step and on disk before it returns. Throws CniError 5. */
export function saveAttachment(
  dataDir: string,
  containerId: string,
  ifname: string,
  delegate: JsonObject,
): void {
  const path = join(dataDir, nameOf(containerId, ifname));
  try {
    makeFolder(dataDir, 0o700);
    // A runtime asks for one thing of an attachment at a time.
    replaceFileSync(path, 0o600, JSON.stringify(delegate), path + UNFINISHED);
  } catch (error) {
    throw new CniError(CNI_ERROR.io, `cannot keep ${path}: ${(error as Error).message}`);
  }
}

/**
 * What an attachment was made with, or undefined when nothing is kept of it. For an interface other than eth0, what
 * flannel's plugin kept under the bare container id counts when it is of the same network.
 */
export function findAttachment(
  dataDir: string,
  containerId: string,
  ifname: string,
  network: string,
): SavedAttachment | undefined {
  const own = read(join(dataDir, nameOf(containerId, ifname)));
  if (own !== undefined || ifname === FIRST_INTERFACE) return own;
  const other = read(join(dataDir, containerId));
  return other?.delegate?.['name'] === network ? other : undefined;
}

/**
 * What is kept of a network's attachments. The interface is undefined where the file's name does not say it: flannel's
 * plugin kept attachments of any interface under the bare container id.
 */
export function listAttachments(
  dataDir: string,
  network: string,
): { readonly containerId: string; readonly ifname: string | undefined; readonly path: string }[] {
  let names: string[];
  try {
    names = readdirSync(dataDir);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw new CniError(CNI_ERROR.io, `cannot list ${dataDir}: ${(error as Error).message}`);
  }
  return names
    .filter((name) => !name.endsWith(UNFINISHED))
    .map((name) => {
      const [containerId, ifname] = name.split(':') as [string, string | undefined];
      return { containerId, ifname, path: join(dataDir, name) };
    })
    .filter(({ path }) => read(path)?.delegate?.['name'] === network);
}

/** Forgets an attachment. Throws CniError 5. */
export function forgetAttachment(path: string): void {
  try {
    rmSync(path, { force: true });
  } catch (error) {
    throw new CniError(CNI_ERROR.io, `cannot remove ${path}: ${(error as Error).message}`);
  }
}

/** Forgets what an ADD that was killed has left half written. Throws CniError 5. */
export function forgetUnfinished(dataDir: string, containerId: string, ifname: string): void {
  forgetAttachment(join(dataDir, nameOf(containerId, ifname)) + UNFINISHED);
}

function read(path: string): SavedAttachment | undefined {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new CniError(CNI_ERROR.io, `cannot read ${path}: ${(error as Error).message}`);
  }
  try {
    const value: unknown = JSON.parse(text);
    return { path, delegate: isObject(value) ? value : undefined };
  } catch {
    return { path, delegate: undefined };
  }
}
