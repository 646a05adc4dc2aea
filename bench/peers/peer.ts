// The peers a measurement compares: each a pair of containers with a way of its own between them, on the lab's switch.
// All are up at the same time, so that rounds can go A B C A C B; an idle one costs nothing.

import { spawnSync } from 'node:child_process';
import { type Host, type Lab, type Task, waitFor } from '../../test/support/lab.js';
import { cutOnUplink } from './uplink.js';

/** Where traffic starts or ends. */
export interface End {
  readonly ns: string;
  readonly ip: string;
}

/** Packets that the hosts of a peer sent to each other so far. */
export interface Carried {
  readonly all: number;
  /** Of them, those of the kernel lane. */
  readonly byLane: number;
}

/** A way between two containers. */
export interface Peer {
  readonly name: string;
  readonly ends: readonly [End, End];
  /** Daemons that carry the packets, if any. */
  readonly daemons: readonly Task[];
  /** The hosts between the ends, if any. */
  readonly hosts: readonly Host[];
  /** Waits until its kernel lane carries packets, and says the lane's mode; absent where there is none. */
  readonly settleLane?: () => Promise<string>;
  /** What it carried, after splitting; absent where there is no lane. */
  readonly carried?: () => Promise<Carried>;
}

/** Where a peer is set up. */
export interface Place {
  readonly lab: Lab;
  /** Its hosts have the indexes `first` and `first + 1`. */
  readonly first: number;
  /** Whether the uplinks of its hosts take no superpackets. */
  readonly isCut: boolean;
}

export interface PeerKind {
  readonly name: string;
  /** Why it cannot run here, or undefined. */
  readonly missing: () => string | undefined;
  readonly start: (place: Place) => Promise<Omit<Peer, 'name'>>;
}

/** Nothing is missing of what is built here or is the kernel's. */
export const isThere = (): undefined => undefined;

const endOf = (host: Host): End => ({ ns: host.containerNs, ip: host.containerIp });

/** A peer of two hosts. */
export function betweenHosts(hosts: readonly Host[], daemons: readonly Task[] = []): Omit<Peer, 'name'> {
  return { ends: [endOf(hosts[0]), endOf(hosts[1])], hosts, daemons };
}

/** A host of the place, without a subnet when `subnet` is undefined. */
export function addHost(
  { lab, isCut }: Place,
  index: number,
  options: Parameters<Lab['addHost']>[1] = {},
): Host {
  const host = lab.addHost(index, options);
  if (isCut) cutOnUplink(lab, host);
  return host;
}

/** The two hosts of a peer. */
export function pair(place: Place, mtuBytes = 1500): [Host, Host] {
  const { first } = place;
  return [addHost(place, first, { mtuBytes }), addHost(place, first + 1, { mtuBytes })];
}

/** Both directions of a pair. */
export const bothWays = (hosts: readonly [Host, Host]): [Host, Host][] => [
  [hosts[0], hosts[1]],
  [hosts[1], hosts[0]],
];

/** The MTU of a container and of the host's end of its link. */
export function setInnerMtu(lab: Lab, host: Host, mtuBytes: number): void {
  lab.ip(host.ns, `link set cni0 mtu ${mtuBytes}`);
  lab.ip(host.containerNs, `link set eth0 mtu ${mtuBytes}`);
}

/** Why a peer that needs the program cannot run here. */
export function missingProgram(program: string): string | undefined {
  const found = spawnSync('sh', ['-c', 'command -v "$1"', 'sh', program], { stdio: 'ignore' }).status === 0;
  return found ? undefined : `${program} is not installed`;
}

/** The peers that are up. */
export interface Started {
  readonly peers: readonly Peer[];
  readonly missing: readonly { readonly name: string; readonly why: string }[];
  /** Mode of the kernel lane, of each peer that can have one. */
  readonly lanes: Readonly<Record<string, string>>;
}

/** Starts the kinds that can run here, and waits until packets cross; says why the others are missing. */
export async function startPeers(lab: Lab, kinds: readonly PeerKind[], isCut: boolean): Promise<Started> {
  const peers: Peer[] = [];
  const missing = [];
  const lanes: Record<string, string> = {};
  let first = 1;
  for (const kind of kinds) {
    const why = kind.missing();
    if (why !== undefined) {
      missing.push({ name: kind.name, why });
      continue;
    }
    peers.push({ name: kind.name, ...(await kind.start({ lab, first, isCut })) });
    first += 2;
  }
  for (const { ends, name, settleLane } of peers) {
    await waitFor(
      async () =>
        (await lab.run(ends[0].ns, 'ping', ['-c1', '-W1', ends[1].ip], { mustSucceed: false })).code === 0,
      `the first echo through ${name}`,
      20_000,
    );
    if (settleLane !== undefined) lanes[name] = await settleLane();
  }
  return { peers, missing, lanes };
}
