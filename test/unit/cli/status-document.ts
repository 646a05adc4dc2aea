// Status documents of a daemon that does not run.

import { INBOUND_COUNTERS, OUTBOUND_COUNTERS } from '../../../src/native/counters.js';
import { hostTexts } from '../../../src/lease/lease.js';
import {
  type EtcdStatus,
  type PeerState,
  type PeerStatus,
  type ReachabilityStatus,
  STATUS_VERSION,
  type StatusDocument,
} from '../../../src/ops/status.js';
import { addressesOf, prefixesOf } from '../../support/leases.js';

const zeroes = (names: readonly string[]): Record<string, number> =>
  Object.fromEntries(names.map((name) => [name, 0]));

/** What a peer has beside its state. */
type Rest = Omit<Partial<PeerStatus>, 'state' | 'reason' | 'code'>;

export function peerWith(
  reachability: ReachabilityStatus,
  rest: Rest = {},
  state: PeerState = { state: 'programmed' },
): PeerStatus {
  return {
    ...hostTexts(prefixesOf('10.5.2.0/24'), addressesOf('192.0.2.2')),
    reachability,
    ...rest,
    ...state,
  };
}

/** Of an etcd that was never reached. */
export const ETCD_STATUS: EtcdStatus = {
  kind: 'etcd',
  endpoints: [],
  connectedTo: null,
  sessionsOpened: 0,
  prefix: '/coreos.com/network',
  ownLease: null,
  revision: '0',
  watchEstablished: false,
  leases: 0,
  badKeys: 0,
  badKeyList: [],
};

/** Of a host with two peers in the udp mode; `outbound` and `inbound` are counters of it that are not 0. */
export function statusWith(
  changes: Partial<StatusDocument> = {},
  outbound = {},
  inbound = {},
): StatusDocument {
  return {
    statusVersion: STATUS_VERSION,
    version: '1.2.3',
    uptimeSeconds: 5,
    ready: true,
    degraded: [],
    conditions: [],
    network: '10.5.0.0/16',
    networks: { v4: '10.5.0.0/16' },
    lease: { subnet: '10.5.1.0/24', subnets: { v4: '10.5.1.0/24' }, mtuBytes: 1472 },
    interface: {
      ...{ name: 'eth0', index: 2, mtuBytes: 1500 },
      ...{ address: '192.0.2.1', addresses: { v4: '192.0.2.1' } },
      ...{ publicIp: '192.0.2.1', publicIps: { v4: '192.0.2.1' } },
    },
    subnetFile: '/run/flannel/subnet.env',
    store: ETCD_STATUS,
    backend: {
      type: 'udp',
      device: 'flannel0',
      port: 8285,
      mtuBytes: 1472,
      sourceCheck: 'strict',
      queues: 1,
      lane: { asked: 'auto', mode: 'sparse', pinned: true },
      counters: {
        outbound: { ...zeroes(OUTBOUND_COUNTERS), ...outbound },
        inbound: { ...zeroes(INBOUND_COUNTERS), ...inbound },
        socketDrops: 0,
      },
    },
    peers: [
      peerWith({ state: 'unknown' }, { packetsOut: 0, bytesOut: 0, packetsIn: 0, bytesIn: 0 }),
      {
        ...peerWith({ state: 'unknown' }, { packetsOut: 0, bytesOut: 0, packetsIn: 0, bytesIn: 0 }),
        ...hostTexts(prefixesOf('10.5.3.0/24'), addressesOf('192.0.2.3')),
      },
    ],
    refusedLeases: [],
    alarms: [],
    ...changes,
  };
}
