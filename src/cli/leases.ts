// `twill leases`: what the store holds.

import type { StatusDocument } from '../ops/status.js';
import { type Command, show } from './command.js';
import { fetchStatus } from './daemon-client.js';
import { fitColumns, screenWidth } from './format.js';
import { byAddress, whyNotUsed } from './peer-text.js';

interface LeaseRow {
  readonly subnet: string;
  readonly publicIp: string;
  readonly state: string;
}

/** Everything the store holds below subnets/, by address; keys that are no leases come last. */
export function listLeases(status: StatusDocument): LeaseRow[] {
  const own = status.lease && {
    subnet: status.lease.subnet,
    publicIp: status.interface?.publicIp ?? '–',
    state: 'own',
  };
  const used = status.peers.map((peer) => {
    const why = whyNotUsed(peer);
    return {
      subnet: peer.subnet,
      publicIp: peer.publicIp,
      state: why === undefined ? 'used' : `not used: ${why}`,
    };
  });
  const refused = status.refusedLeases.map(({ key, text }) => ({
    subnet: key,
    publicIp: '–',
    state: `refused: ${text}`,
  }));
  const badKeys = status.store.kind === 'static' ? [] : status.store.badKeyList;
  const unreadable = badKeys.map(({ key, problem }) => ({
    subnet: key,
    publicIp: '–',
    state: `unreadable: ${problem}`,
  }));
  return [...byAddress([...(own === undefined ? [] : [own]), ...used, ...refused]), ...unreadable];
}

export function leasesText({ store }: StatusDocument, leases: readonly LeaseRow[], width: number): string {
  if (leases.length === 0) return 'no leases';
  const rows = leases.map(({ subnet, publicIp, state }) => [subnet, publicIp, state]);
  const text = fitColumns([['subnet', 'public IP', 'state'], ...rows], [], width);
  const more = store.kind === 'static' ? 0 : store.badKeys - store.badKeyList.length;
  return more > 0 ? `${text}\nand ${more} unreadable keys more` : text;
}

export const LEASES: Command = {
  name: 'leases',
  summary: 'what the store holds: the own lease, the others, those refused with the reason, unreadable keys',
  help: ['--wide       whole lines, however narrow the screen'],
  options: { wide: { type: 'boolean' } },
  run: async (context) => {
    const status = await fetchStatus(context.socketPath);
    const leases = listLeases(status);
    const width = context.options['wide'] === true ? Infinity : screenWidth();
    show(context, leases, () => leasesText(status, leases, width));
    return 0;
  },
};
