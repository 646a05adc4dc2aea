// `twill capture`: inner packets as the overlay's device sees them, by tcpdump(8).
//
// Outbound they are seen before they are split, inbound after they were merged: with offloads on, a packet may be up to
// 64 KB long and its checksum not filled in yet, as on any device with segmentation offload. What the kernel lane sends
// leaves the device before it is seen, so the daemon gives it nothing meanwhile.

import { spawn } from 'node:child_process';
import { type Command, countOption, UsageError } from './command.js';
import type { FamilyTexts, StatusDocument } from '../ops/status.js';
import { askToShowAll, deviceOf, devicesOf, fetchStatus, udpOf } from './daemon-client.js';

/** Arguments of tcpdump for a daemon in this state. Throws UsageError for a peer that is none. */
export function captureArguments(
  status: StatusDocument,
  options: {
    readonly peer?: string;
    readonly file?: string;
    readonly count?: number;
    readonly snaplen?: number;
    /** In the words of pcap-filter(7). */
    readonly condition?: string;
  },
): string[] {
  // host-gw has no device of its own: the overlay's packets are those of its network on the external interface.
  const isIpv6 = options.peer?.includes(':') === true;
  const device = (isIpv6 ? devicesOf(status).v6 : deviceOf(status)) ?? status.interface?.name;
  if (device === undefined) throw new UsageError('the daemon has no device yet: see twill status');
  const args = ['-n', '-i', device];
  if (options.file !== undefined) args.push('-U', '-w', options.file);
  if (options.count !== undefined) args.push('-c', String(options.count));
  if (options.snaplen !== undefined) args.push('-s', String(options.snaplen));
  const filter: string[] = [];
  if (options.peer !== undefined) {
    const subnets = status.peers
      .filter(({ subnets, publicIps }) =>
        [subnets, publicIps].some((texts) => textsOf(texts).includes(options.peer!)),
      )
      .flatMap((peer) => netsOf(peer.subnets));
    if (subnets.length === 0)
      throw new UsageError(
        `--peer is "${options.peer}": expected a peer's public IP or subnet, see twill peers`,
      );
    filter.push(subnets.join(' or '));
  } else if (deviceOf(status) === undefined && status.networks !== undefined) {
    filter.push(netsOf(status.networks).join(' or '));
  }
  if (options.condition !== undefined) filter.push(options.condition);
  return filter.length === 0 ? args : [...args, filter.map((part) => `(${part})`).join(' and ')];
}

const textsOf = (texts: FamilyTexts): string[] => Object.values(texts) as string[];
const netsOf = (prefixes: FamilyTexts): string[] => textsOf(prefixes).map((prefix) => `net ${prefix}`);

/** What is not seen on the device of a daemon that cannot be asked to show it, if something is not. */
export function unseenText(status: StatusDocument): string | undefined {
  const udp = udpOf(status);
  if (udp?.lane === undefined || udp.lane.mode === 'off') return undefined;
  const { lane, device, port } = udp;
  const elsewhere = `"tcpdump -i ${status.interface?.name ?? 'any'} udp port ${port}" shows them`;
  return `packets that the kernel lane sends (${lane.mode}) are not seen on ${device}: ${elsewhere}, or --lane=off`;
}

/** What is not seen because each family has a device of its own, if they do. */
export function otherFamilyText(status: StatusDocument, peer: string | undefined): string | undefined {
  const { v4, v6 } = devicesOf(status);
  if (v4 === undefined || v6 === undefined || v4 === v6) return undefined;
  const [seen, other] = peer?.includes(':') === true ? [v6, v4] : [v4, v6];
  return `this is ${seen} alone: "tcpdump -i ${other}" shows the packets of the other family`;
}

export const CAPTURE: Command = {
  name: 'capture',
  summary: 'inner packets of the overlay, printed or as pcap, by tcpdump',
  help: [
    '--peer IP    only packets from or to this host (public IP or subnet)',
    '--write F    pcap to a file, or to a pipe with -: twill capture --write - | wireshark -k -i -',
    '--count N    ends after N packets',
    '--snaplen N  bytes of each packet',
    '-- WORDS     more conditions, in the words of pcap-filter(7)',
  ],
  options: {
    peer: { type: 'string' },
    write: { type: 'string', short: 'w' },
    count: { type: 'string' },
    snaplen: { type: 'string' },
  },
  run: async (context) => {
    if (context.isJson) throw new UsageError('capture has no --json: use --write for pcap');
    const { options, rest } = context;
    const status = await fetchStatus(context.socketPath);
    const [count, snaplen] = [countOption(options, 'count'), countOption(options, 'snaplen')];
    const peer = typeof options['peer'] === 'string' ? options['peer'] : undefined;
    const args = captureArguments(status, {
      ...(peer === undefined ? {} : { peer }),
      ...(typeof options['write'] === 'string' ? { file: options['write'] } : {}),
      ...(count === undefined ? {} : { count }),
      ...(snaplen === undefined ? {} : { snaplen }),
      ...(rest.length === 0 ? {} : { condition: rest.join(' ') }),
    });
    const otherFamily = otherFamilyText(status, peer);
    if (otherFamily !== undefined) process.stderr.write(`twill: ${otherFamily}\n`);
    const unseen = unseenText(status);
    if (unseen === undefined) return await runTcpdump(args);
    const showNoLonger = await askToShowAll(context.socketPath);
    if (showNoLonger === undefined) process.stderr.write(`twill: ${unseen}\n`);
    try {
      return await runTcpdump(args);
    } finally {
      showNoLonger?.();
    }
  },
};

function runTcpdump(args: readonly string[]): Promise<number> {
  const child = spawn('tcpdump', args, { stdio: ['ignore', 'inherit', 'inherit'] });
  // Ctrl-C reaches the whole foreground group: tcpdump ends by itself and says what it saw.
  const ignore = (): void => undefined;
  const end = (): void => void child.kill('SIGTERM');
  process.on('SIGINT', ignore).on('SIGTERM', end);
  return new Promise((resolve, reject) => {
    child.once('error', (error: NodeJS.ErrnoException) => {
      const missing = 'tcpdump is not installed: apt-get install tcpdump';
      reject(new Error(error.code === 'ENOENT' ? missing : `tcpdump: ${error.message}`));
    });
    child.once('close', (code) => {
      process.off('SIGINT', ignore).off('SIGTERM', end);
      resolve(code ?? 1);
    });
  });
}
