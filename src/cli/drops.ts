// `twill drops`: packets dropped, by reason.

import { DROP_MEANINGS, type DropReason } from '../native/counters.js';
import type { StatusDocument } from '../ops/status.js';
import { type Command, show } from './command.js';
import { fetchStatus, udpOf } from './daemon-client.js';
import { formatColumns, formatNumber, screenWidth, wrap } from './format.js';

interface Drop {
  readonly direction: string;
  readonly reason: string;
  readonly packets: number;
  readonly meaning: string;
}

/** Every drop counter of a status with its meaning; those at 0 only when asked for. */
export function listDrops(status: StatusDocument, withZeroes: boolean): Drop[] {
  const counters = udpOf(status)?.counters;
  if (counters === undefined) return [];
  const drops: Drop[] = [];
  for (const direction of ['outbound', 'inbound'] as const) {
    for (const [name, packets] of Object.entries(counters[direction])) {
      if (!name.startsWith('drop_') || (packets === 0 && !withZeroes)) continue;
      const meaning = DROP_MEANINGS[name as DropReason] as string | undefined;
      drops.push({
        direction,
        reason: name.slice('drop_'.length),
        packets,
        meaning: meaning ?? 'not known here',
      });
    }
  }
  if (counters.socketDrops > 0 || withZeroes) {
    const meaning = 'the receive buffer of the socket was full: the workers did not keep up';
    drops.push({ direction: 'inbound', reason: 'socket_buffer', packets: counters.socketDrops, meaning });
  }
  return drops.sort((a, b) => b.packets - a.packets);
}

export function dropsText(status: StatusDocument, drops: readonly Drop[], width: number): string {
  if (udpOf(status)?.counters === undefined)
    return `backend ${status.backend.type ?? '–'}: the kernel carries the packets and counts them (ip -s link)`;
  if (drops.length === 0) return 'nothing was dropped';
  const rows = drops.map(({ packets, direction, reason }) => [formatNumber(packets), direction, reason]);
  const lines = formatColumns([['packets', 'direction', 'reason'], ...rows]).split('\n');
  const indent = lines.reduce((widest, { length }) => Math.max(widest, length), 0) + 2;
  const meanings = ['meaning', ...drops.map(({ meaning }) => meaning)];
  return lines
    .map((line, i) => line.padEnd(indent) + wrap(meanings[i], width - indent).join(`\n${' '.repeat(indent)}`))
    .join('\n');
}

export const DROPS: Command = {
  name: 'drops',
  summary: 'packets dropped since the start, by reason, and what each reason means',
  help: ['--all        also reasons that never happened'],
  options: { all: { type: 'boolean' } },
  run: async (context) => {
    const status = await fetchStatus(context.socketPath);
    const drops = listDrops(status, context.options['all'] === true);
    show(context, drops, () => dropsText(status, drops, screenWidth()));
    return 0;
  },
};
