// The last good table on disk: what a daemon forwards from when it starts while the store is down.
//
// One file beside subnet.env, mode 0600, replaced in one step. Format:
//
//   twill-table 1 <sha256 of the rest, hex>\n
//   {"source":…,"savedAt":…,"config":…,"own":[key,value,etcdLease,hintedPublicIp],
//    "leases":[[id,value,createRevision,modRevision,key],…]}\n
//
// A key is left out where it is the id, as in etcd.
// Keys and values are flannel's texts and go through the same bounded decoding as those from the store. A file that is
// not a plain file of our own, is too large, of another version, damaged, or of another store is ignored with a
// warning: the daemon then starts as if there were none. A lease that cannot be read, though another store or release
// could, is left out.

import { type Condition, Conditions } from '../core/conditions.js';
import { createHash } from 'node:crypto';
import { closeSync, constants, fstatSync, openSync, readFileSync, readSync } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { makeFolder, replaceFile } from '../core/files.js';
import type { Lease, LeaseHost } from '../lease/lease.js';
import { flatLease } from '../lease/flat-lease.js';
import { formatLeaseKey, formatLeaseValue, parseLeaseKey, parseLeaseValue } from '../lease/lease-codec.js';
import { parseIpv4 } from '../net/ipv4.js';
import { type DualAddress, type DualPrefix, formatAddress } from '../net/prefix.js';
import type { Logger } from '../core/log.js';
import { dualOf, familiesOf } from '../net/dual.js';
import { parseIpv6 } from '../net/ipv6.js';

const MAGIC = 'twill-table 1 ';
// 65,536 leases of 400 bytes are 26 MiB.
const MAX_FILE_BYTES = 64 * 1024 * 1024;
/** What comes before the leases: a config is a value of etcd, which takes 1.5 MiB at most, and is escaped here. */
const MAX_HEAD_BYTES = 4 * 1024 * 1024;
const LEASES = ',"leases":[';
const PART_LEASES = 500;
const FIRST_DELAY_MS = 50;
const MIN_INTERVAL_MS = 1000;
const RETRY_MS = 10_000;
/** Between two writings of a large table, as a multiple of the time that one takes. */
const REST = 100;
const UNKNOWN = { created: 0n, written: 0n };

/** A table as it was last known. */
export interface SavedTable {
  /** Which store it is from; a table of another one is not loaded. */
  readonly source: string;
  /** RFC 3339, for people only. */
  readonly savedAt: string;
  readonly configText: string;
  readonly ownSubnets: DualPrefix;
  readonly ownHost: LeaseHost;
  /** The etcd lease of the own key, which proves after a restart that the key is ours. 0n: none, or not known. */
  readonly ownLeaseId: bigint;
  /** The address that the store wanted this host to publish; undefined for none. */
  readonly hintedPublicIp: DualAddress | undefined;
  readonly leases: readonly Lease[];
}

/**
 * The table saved at `path`, or undefined when there is none that can be trusted (with a warning, unless it is absent).
 */
export function loadTable(path: string, source: string, log: Logger): SavedTable | undefined {
  try {
    const text = readOwnFile(path);
    return text === undefined ? undefined : parseTable(text, source);
  } catch (error) {
    log.warn({ path }, `ignoring saved lease table: ${(error as Error).message}`);
    return undefined;
  }
}

/**
 * The public IP of this host in the table saved at `path`, from the head of the file alone: a large table is not read
 * for that, nor is its checksum. So it is good for a preference, not as a proof; undefined when there is none to be
 * had.
 */
export function loadPublicIp(path: string, source: string): DualAddress | undefined {
  try {
    const text = readOwnFile(path, MAX_HEAD_BYTES);
    if (text === undefined || !text.startsWith(MAGIC)) return undefined;
    // Inside a text its quotes would be escaped.
    const head = text.slice(text.indexOf('\n') + 1, text.indexOf(LEASES));
    const { source: from, own } = JSON.parse(`${head}}`) as Record<string, unknown>;
    return from === source && isRow(own) ? parseRow([own[0], own[1]]).host.publicIp : undefined;
  } catch {
    return undefined; // loadTable() says what is wrong with it
  }
}

/** File text of `table`. */
export function formatTable(table: SavedTable): string {
  const body = [...bodyOf(table)].join('');
  return `${MAGIC}${digest(body)}\n${body}`;
}

/** The text below the first line, in parts: a large table is never text as a whole. */
function* bodyOf(table: SavedTable): Generator<string> {
  const { source, savedAt, configText, ownSubnets, ownHost, ownLeaseId, hintedPublicIp, leases } = table;
  const own = [formatLeaseKey(ownSubnets), formatLeaseValue(ownHost), ownLeaseId.toString()];
  if (hintedPublicIp !== undefined) own.push(joinAddresses(hintedPublicIp));
  const head = JSON.stringify({ source, savedAt, config: configText, own });
  yield `${head.slice(0, -1)}${LEASES}`;
  for (let first = 0; first < leases.length; first += PART_LEASES) {
    const rows = leases
      .slice(first, first + PART_LEASES)
      .map(formatRow)
      .join(',');
    yield first === 0 ? rows : `,${rows}`;
  }
  yield ']}\n';
}

/** The JSON of a row, with nothing made on the way that is not in it: in a storm all leases are written each second. */
function formatRow({ id, subnets, host, seniority }: Lease): string {
  const { created, written } = seniority ?? UNKNOWN;
  const key = formatLeaseKey(subnets);
  const createdText = created.toString();
  const writtenText = created === written ? createdText : written.toString();
  const rest = `${JSON.stringify(formatLeaseValue(host))},"${createdText}","${writtenText}"`;
  // A key has digits, dots and a dash, which stand for themselves.
  return key === id ? `["${key}",${rest}]` : `[${JSON.stringify(id)},${rest},"${key}"]`;
}

/** The inverse of formatTable(). Throws Error naming what is wrong. */
export function parseTable(text: string, source: string): SavedTable {
  const lineEnd = text.indexOf('\n');
  if (!text.startsWith(MAGIC)) throw new Error('not a table of this version');
  const body = text.slice(lineEnd + 1);
  if (text.slice(MAGIC.length, lineEnd) !== digest(body)) throw new Error('checksum does not match');
  const json = JSON.parse(body) as Record<string, unknown>;
  const { savedAt, config, own, leases } = json;
  if (json.source !== source) throw new Error(`it is from "${String(json.source)}", not from "${source}"`);
  if (typeof savedAt !== 'string' || typeof config !== 'string' || !isRow(own) || !Array.isArray(leases)) {
    throw new Error('fields are missing');
  }
  const ownLease = parseRow([own[0], own[1]]);
  return {
    source,
    savedAt,
    configText: config,
    ownSubnets: ownLease.subnets,
    ownHost: ownLease.host,
    ownLeaseId: BigInt(own[2] ?? 0),
    hintedPublicIp: parseAddresses(own[3] ?? ''),
    leases: leases.flatMap((row: unknown) => {
      if (!isRow(row)) throw new Error('a lease is not a row of texts');
      try {
        return [parseRow(row)];
      } catch {
        return []; // the checksum holds, so we wrote it: what one host published must not cost us all the others
      }
    }),
  };
}

/** "192.0.2.1", "2001:db8::1" or "192.0.2.1 2001:db8::1". */
function joinAddresses(addresses: DualAddress): string {
  return familiesOf(addresses)
    .map((family) => formatAddress(addresses[family]!))
    .join(' ');
}

/** The inverse of joinAddresses(); undefined for none. */
function parseAddresses(text: string): DualAddress | undefined {
  const parts = text.split(' ');
  const v4 = parts.map(parseIpv4).find((address) => address !== undefined);
  const v6 = parts.map(parseIpv6).find((address) => address !== undefined);
  return v4 === undefined && v6 === undefined ? undefined : dualOf(v4, v6);
}

/** Writes the table soon after it changed, never more often than the cost of writing allows. */
export class TableCache {
  readonly #path: string;
  readonly #log: Logger;
  readonly #conditions = new Conditions();
  #build: (() => SavedTable | undefined) | undefined;
  #timer: NodeJS.Timeout | undefined;
  #writing: Promise<void> = Promise.resolve();
  #intervalMs = FIRST_DELAY_MS;
  #isClosed = false;

  constructor(path: string, log: Logger) {
    this.#path = path;
    this.#log = log;
  }

  /** The table changed; `build` is called when it is written. */
  changed(build: () => SavedTable | undefined): void {
    if (this.#isClosed) return;
    this.#build = build;
    this.#timer ??= setTimeout(() => void this.#flush(), this.#intervalMs);
  }

  conditions(): readonly Condition[] {
    return this.#conditions.list();
  }

  /** Writes what is pending and stops. Idempotent. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#flush();
  }

  #flush(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const build = this.#build;
    this.#build = undefined;
    if (build !== undefined) this.#writing = this.#writing.then(() => this.#write(build));
    return this.#writing;
  }

  async #write(build: () => SavedTable | undefined): Promise<void> {
    const startedAtMs = performance.now();
    const table = build();
    if (table === undefined) return;
    try {
      makeFolder(dirname(this.#path), 0o755);
      await replaceFile(this.#path, 0o600, (file) => writeTable(file, table));
      // Much of it is work on the main thread: at most a hundredth of its time goes into it.
      this.#intervalMs = Math.max(MIN_INTERVAL_MS, REST * (performance.now() - startedAtMs));
      this.#conditions.release('table-not-saved');
    } catch (error) {
      const { code = (error as Error).message } = error as NodeJS.ErrnoException;
      const problem = `lease table not saved to "${this.#path}": ${code}`;
      if (problem !== this.#conditions.textOf('table-not-saved')) this.#log.warn(problem);
      this.#conditions.hold('table-not-saved', problem);
      this.#intervalMs = RETRY_MS;
      if (this.#build === undefined) this.changed(build);
    }
  }
}

/** The first line is as long with as without the checksum, which is known last. */
async function writeTable(file: FileHandle, table: SavedTable): Promise<void> {
  const hash = createHash('sha256');
  await file.write(`${MAGIC}${hash.copy().digest('hex')}\n`);
  for (const part of bodyOf(table)) {
    hash.update(part);
    await file.write(part);
  }
  await file.write(hash.digest('hex'), MAGIC.length);
}

/** The text of the file, or of its first `bytes`. */
function readOwnFile(path: string, bytes?: number): string | undefined {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ENOENT') return undefined;
    throw new Error(code === 'ELOOP' ? 'it is a symbolic link' : (code ?? 'cannot be opened'), {
      cause: error,
    });
  }
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile()) throw new Error('it is not a plain file');
    if (stat.uid !== process.geteuid?.()) throw new Error(`it is owned by uid ${stat.uid}`);
    if ((stat.mode & 0o022) !== 0) throw new Error('others can write to it');
    if (stat.size > MAX_FILE_BYTES) throw new Error(`it has ${stat.size} bytes (at most ${MAX_FILE_BYTES})`);
    if (bytes === undefined || stat.size <= bytes) return readFileSync(fd, 'utf8');
    const part = Buffer.alloc(bytes);
    return part.toString('utf8', 0, readSync(fd, part));
  } finally {
    closeSync(fd);
  }
}

type Row = readonly [string, string, ...string[]];

function isRow(value: unknown): value is Row {
  return Array.isArray(value) && value.length >= 2 && value.every((item) => typeof item === 'string');
}

function parseRow([id, value, createRevision, modRevision, key = id]: Row): Lease {
  const subnet = parseLeaseKey(key);
  const host = parseLeaseValue(value);
  if (!subnet.ok) throw new Error(`bad lease key "${key}": ${subnet.problem}`);
  if (!host.ok) throw new Error(`bad lease value of "${key}": ${host.problem}`);
  const created = BigInt(createRevision ?? 0);
  // An older release did not save when a lease was written last.
  const written = modRevision === undefined ? created : BigInt(modRevision);
  return flatLease(id, subnet.value, host.value, { created, written });
}

function digest(body: string): string {
  return createHash('sha256').update(body).digest('hex');
}
