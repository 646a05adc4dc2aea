// Which peers get which workloads, under which conditions. Everything that docs/performance.md shows comes from here.

import { Churn } from './churn.js';
import { BBR, CUBIC } from './congestion.js';
import { FLANNELD } from './peers/flanneld.js';
import { BARE_VETH, hostGw, kernelVxlan } from './peers/kernel.js';
import type { PeerKind } from './peers/peer.js';
import {
  LANE_ALL,
  LANE_FLAGS,
  LANE_OFF,
  LANE_SPARSE,
  named,
  PLAIN,
  TWILL,
  twill,
  twillIpv6,
  type TwillOptions,
} from './peers/twill.js';
import { FASTD, PLAIN_LOOP, WIREGUARD_GO } from './peers/userspace.js';
import type { Entry, Suite } from './suite.js';
import {
  connections,
  MANY_FLOWS,
  roundTripIdle,
  roundTripLoaded,
  tcp,
  tcpBothWays,
  udp,
  under,
  type Workload,
} from './workloads.js';

const ONE_STREAM = tcp('TCP 1 stream', 1);
const FOUR_STREAMS = tcp('TCP 4 streams', 4);
const BULK = [BBR, CUBIC].flatMap((control) => [under(control, ONE_STREAM), under(control, FOUR_STREAMS)]);
const SMALL_PACKETS = udp(64, MANY_FLOWS);

/** What decides between ways that are all fast. */
const FULL: readonly Workload[] = [
  ...BULK,
  roundTripIdle,
  ...[BBR, CUBIC].map((control) => under(control, roundTripLoaded)),
  connections,
  SMALL_PACKETS,
];

/** What shows how far behind the others are. */
const SCALE: readonly Workload[] = [
  under(CUBIC, ONE_STREAM),
  under(CUBIC, FOUR_STREAMS),
  roundTripIdle,
  under(CUBIC, roundTripLoaded),
  connections,
  SMALL_PACKETS,
];

/** What cutting superpackets changes. */
const UPLINK: readonly Workload[] = [
  ...BULK,
  roundTripIdle,
  under(CUBIC, roundTripLoaded),
  connections,
  SMALL_PACKETS,
];

const MORE: readonly Workload[] = [
  under(BBR, tcp('TCP 1 stream reverse', 1, true)),
  under(BBR, tcpBothWays),
  udp(1400, MANY_FLOWS),
];

const ONE_AND_FOUR = [under(BBR, ONE_STREAM), under(BBR, FOUR_STREAMS)];

const LANES = [TWILL, LANE_SPARSE, LANE_ALL, LANE_OFF];
const JUMBO = 9000;

const each = (kinds: readonly PeerKind[], workloads: readonly Workload[]): Entry[] =>
  kinds.map((kind) => ({ kind, workloads }));

const CUT_TITLE = 'an uplink without tunnel offload: superpackets are cut before they leave';

/** What fits three minutes in two rounds: twill, the kernel and a plain loop, with and without a cutting uplink. */
export function makeQuickSuites(): Suite[] {
  return [
    {
      name: 'peers',
      title: 'links that hand superpackets over whole, MTU 1500',
      entries: [
        // On links that spare the cutting, `auto` is `all`.
        ...each([TWILL, LANE_SPARSE, LANE_OFF, kernelVxlan()], FULL),
        ...each([FLANNELD, PLAIN_LOOP], SCALE),
      ],
    },
    {
      name: 'uplink',
      title: CUT_TITLE,
      isCut: true,
      entries: [
        // Here it is `sparse`.
        ...each([TWILL, LANE_ALL, LANE_OFF, kernelVxlan()], BULK),
      ],
    },
  ];
}

/** twill as it chooses, and with the engine alone, by a name and flags. */
const withAndWithoutLane = (name: string, options: TwillOptions = {}): PeerKind[] =>
  LANE_FLAGS.map((lane) => twill(named(name, lane), { ...options, flags: [lane, ...(options.flags ?? [])] }));

/** A fresh list each time, because a suite may hold what its lab left. */
export function makeSuites(): Suite[] {
  return [...makeMainSuites(), ...makeExtraSuites()];
}

/** What the targets are about: three rounds of it fit twenty minutes. */
function makeMainSuites(): Suite[] {
  const churn = new Churn();
  return [
    {
      name: 'peers',
      title: 'links that hand superpackets over whole, MTU 1500',
      entries: [...each([...LANES, kernelVxlan(), hostGw()], FULL), ...each([FLANNELD, PLAIN_LOOP], SCALE)],
    },
    {
      name: 'uplink',
      title: CUT_TITLE,
      isCut: true,
      entries: each([...LANES, kernelVxlan(), hostGw()], UPLINK),
    },
    {
      name: 'leases',
      title: 'leases in the table',
      entries: each(
        [2, 65_536].flatMap((leases) => withAndWithoutLane(`${leases} leases`, { leases })),
        [under(BBR, ONE_STREAM), SMALL_PACKETS],
      ),
    },
    {
      name: 'families',
      title: 'IPv4 over IPv4 and IPv6 over IPv6, the engine alone',
      entries: each(
        [LANE_OFF, twillIpv6('twill --lane=off, IPv6', ['--lane=off'])],
        [...ONE_AND_FOUR, roundTripIdle, SMALL_PACKETS],
      ),
    },
    {
      name: 'churn',
      title: 'lease events beside traffic',
      entries: each(churn.kinds, ONE_AND_FOUR),
      beside: churn.beside,
    },
  ];
}

function makeExtraSuites(): Suite[] {
  const suites: Omit<Suite, 'isExtra'>[] = [
    {
      name: 'others',
      title: 'other tunnels, links that hand superpackets over whole, MTU 1500',
      entries: each(
        [TWILL, LANE_OFF, kernelVxlan(), BARE_VETH, PLAIN, PLAIN_LOOP, FASTD, WIREGUARD_GO],
        [...SCALE, ...MORE],
      ),
    },
    {
      name: 'segmented',
      title: 'the offloads of all links off, those of the containers too',
      entries: each([...LANES, kernelVxlan(), hostGw(), BARE_VETH], ONE_AND_FOUR),
      prepare: (lab) => lab.turnOffloadsOff(),
    },
    {
      name: 'jumbo',
      title: 'MTU 9000',
      entries: each(
        [...withAndWithoutLane('twill', { mtuBytes: JUMBO }), kernelVxlan(JUMBO), hostGw(JUMBO)],
        ONE_AND_FOUR,
      ),
    },
    {
      name: 'queues',
      title: 'queues of the TUN device',
      entries: each(
        [LANE_OFF, twill('twill --lane=off --queues=2', { flags: ['--lane=off', '--queues=2'] })],
        [...ONE_AND_FOUR, roundTripIdle, SMALL_PACKETS],
      ),
    },
  ];
  return suites.map((suite) => ({ ...suite, isExtra: true }));
}
