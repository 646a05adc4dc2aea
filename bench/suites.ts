// Which peers get which workloads, under which conditions. Everything that docs/performance.md shows comes from here.

import { Churn } from './churn.js';
import { hostGw, kernelVxlan, PEER_KINDS, TWILL, TWILL_OFFLOAD_OFF, twill } from './peers.js';
import type { Suite } from './suite.js';
import {
  connections,
  MANY_FLOWS,
  roundTripIdle,
  roundTripLoaded,
  tcp,
  tcpBothWays,
  udp,
  type Workload,
} from './workloads.js';

const ONE_STREAM = tcp('TCP 1 stream', 1);
const FOUR_STREAMS = tcp('TCP 4 streams', 4);

const ALL: readonly Workload[] = [
  ONE_STREAM,
  tcp('TCP 1 stream reverse', 1, true),
  FOUR_STREAMS,
  tcp('TCP 16 streams', 16),
  tcpBothWays,
  roundTripIdle,
  roundTripLoaded,
  connections,
  ...[64, 512, 1400].flatMap((bytes) => [udp(bytes, MANY_FLOWS), udp(bytes, 1)]),
];

const JUMBO = 9000;

/** A fresh list each time, because a suite may hold what its lab left. */
export function makeSuites(): Suite[] {
  const churn = new Churn();
  return [
    { name: 'peers', title: 'veth offloads on, MTU 1500', kinds: PEER_KINDS, workloads: ALL },
    {
      name: 'segmented',
      title: 'veth offloads off: every peer pays for real segmentation',
      kinds: PEER_KINDS,
      workloads: [ONE_STREAM, FOUR_STREAMS, udp(64, MANY_FLOWS), udp(1400, MANY_FLOWS)],
      prepare: (lab) => lab.turnOffloadsOff(),
    },
    {
      name: 'jumbo',
      title: 'MTU 9000',
      kinds: [
        twill('twill', '', { mtuBytes: JUMBO }),
        kernelVxlan(JUMBO),
        hostGw(JUMBO),
        twill(TWILL_OFFLOAD_OFF.name, '', { mtuBytes: JUMBO, flags: ['--offload=off'] }),
      ],
      workloads: [ONE_STREAM, FOUR_STREAMS],
    },
    {
      name: 'leases',
      title: 'leases in the table',
      kinds: [2, 100, 10_000, 65_536].map((leases) => twill(`${leases} leases`, '', { leases })),
      workloads: [ONE_STREAM, udp(64, MANY_FLOWS)],
    },
    {
      name: 'churn',
      title: 'lease events beside traffic',
      kinds: churn.kinds,
      workloads: [ONE_STREAM, FOUR_STREAMS],
      beside: churn.beside,
    },
    {
      name: 'queues',
      title: 'queues of the TUN device',
      kinds: [TWILL, twill('twill --queues=2', '', { flags: ['--queues=2'] })],
      workloads: [ONE_STREAM, FOUR_STREAMS, roundTripIdle, udp(64, MANY_FLOWS)],
    },
  ];
}
