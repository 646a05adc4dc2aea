// nft(8): whole transactions over stdin, and tables as JSON. A transaction applies entirely or not at all, so that no
// packet ever meets half a ruleset.

import { describe, runCommand } from '../kernel/command.js';
import { OverlayError } from '../core/errors.js';

/** One object of `nft -json`: {"table": …}, {"set": …}, {"chain": …}, {"rule": …}. */
export type NftObject = Readonly<Record<string, Readonly<Record<string, unknown>> | undefined>>;

export interface NftTable {
  /** As nft names it. */
  readonly family: 'ip' | 'ip6';
  readonly name: string;
}

/** Whether there is an nft to run. */
export async function hasNft(signal?: AbortSignal): Promise<boolean> {
  try {
    return (await runCommand('nft', ['--version'], { signal, errorCode: 'E_FIREWALL' })).status === 0;
  } catch {
    return false;
  }
}

/** Applies `script` as one transaction. Rejects with OverlayError E_FIREWALL; nothing has changed then. */
export async function applyTransaction(script: string, signal?: AbortSignal): Promise<void> {
  await runNft(['-f', '-'], script, signal);
}

/** Whether the kernel and nft would take `script`; nothing is changed. */
export async function canApply(script: string, signal?: AbortSignal): Promise<boolean> {
  const result = await runCommand('nft', ['-c', '-f', '-'], {
    input: script,
    signal,
    errorCode: 'E_FIREWALL',
  });
  return result.status === 0;
}

/** The objects of a table, or undefined when there is no such table. Rejects with OverlayError E_FIREWALL. */
export async function listTable(
  { family, name }: NftTable,
  signal?: AbortSignal,
): Promise<NftObject[] | undefined> {
  const args = ['--json', 'list', 'table', family, name];
  const result = await runCommand('nft', args, { signal, errorCode: 'E_FIREWALL' });
  if (result.status !== 0) {
    if (/No such file or directory/.test(result.stderr)) return undefined;
    throw refusal(args, result.stderr);
  }
  return (JSON.parse(result.stdout) as { nftables: NftObject[] }).nftables;
}

/** The text of a table as `nft -s list table` prints it (no counters), or undefined when there is no such table. */
export async function printTable(
  { family, name }: NftTable,
  signal?: AbortSignal,
  hasHandles = false,
): Promise<string | undefined> {
  const args = ['-s', ...(hasHandles ? ['-a'] : []), 'list', 'table', family, name];
  const result = await runCommand('nft', args, { signal, errorCode: 'E_FIREWALL' });
  if (result.status === 0) return result.stdout;
  if (/No such file or directory/.test(result.stderr)) return undefined;
  throw refusal(args, result.stderr);
}

/** Removes a table and all in it; one that is not there is success. */
export async function deleteTable({ family, name }: NftTable, signal?: AbortSignal): Promise<void> {
  // "add" first, since "destroy" needs nft 1.0.7 and Linux 6.3.
  await applyTransaction(`add table ${family} ${name}\ndelete table ${family} ${name}\n`, signal);
}

async function runNft(
  args: readonly string[],
  input: string,
  signal: AbortSignal | undefined,
): Promise<void> {
  const result = await runCommand('nft', args, { input, signal, errorCode: 'E_FIREWALL' });
  if (result.status !== 0) throw refusal(args, result.stderr);
}

/** nft repeats the input line below each error, which may be long. */
const REASON_CHARACTERS = 300;

function refusal(args: readonly string[], stderr: string): OverlayError {
  const reason =
    stderr.trim().split('\n').slice(0, 3).join('; ').slice(0, REASON_CHARACTERS) || 'no reason given';
  return new OverlayError('E_FIREWALL', `"${describe('nft', args)}" failed: ${reason}`);
}
