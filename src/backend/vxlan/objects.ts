// What the tunnel of a peer is made of in the kernel, beside its route. Pure, but for the listing.
//
//   neighbour  <first address of the subnet> → VTEP MAC      FDB entry  VTEP MAC → public IP
//
// Each family has a device, and so a MAC, of its own.
//
// They may come in any order: without the route nothing uses them.

import { deleteFdbLine, type FdbEntry, replaceFdbLine } from '../../kernel/fdb.js';
import type { Kernel } from '../../kernel/kernel.js';
import { deleteNeighbourLine, type Neighbour, replaceNeighbourLine } from '../../kernel/neigh.js';
import { compareAge, compareRecency } from '../../lease/lease.js';
import type { Address } from '../../net/prefix.js';
import type {
  HeldObject,
  KernelObject,
  ListScope,
  ObjectKind,
  PeerRefusal,
  TunnelDevices,
} from '../../programmer/objects.js';

/** Which MAC answers for the far end of a tunnel. */
export class NeighbourObject implements KernelObject {
  readonly #device: string;
  readonly #address: Address;
  readonly #mac: string;

  constructor(device: string, { address, mac }: Pick<Neighbour, 'address' | 'mac'>) {
    this.#device = device;
    this.#address = address;
    this.#mac = mac;
  }

  get kind(): ObjectKind {
    return NEIGHBOUR;
  }

  get key(): number | bigint {
    return this.#address;
  }

  add(): string {
    return replaceNeighbourLine(this.#device, this.#address, this.#mac);
  }

  remove(): string {
    return deleteNeighbourLine(this.#device, this.#address);
  }

  isSame(other: KernelObject): boolean {
    return other instanceof NeighbourObject && this.#address === other.#address && this.#mac === other.#mac;
  }
}

/** To which host the frames for a MAC are sent. */
export class FdbObject implements KernelObject {
  readonly mac: string;
  readonly destination: Address;
  readonly #device: string;
  readonly #isPermanent: boolean;

  constructor(device: string, { mac, destination, isPermanent }: FdbEntry) {
    this.mac = mac;
    this.#device = device;
    this.destination = destination;
    this.#isPermanent = isPermanent;
  }

  get kind(): ObjectKind {
    return FDB;
  }

  get key(): string {
    return typeof this.destination === 'number' ? this.mac : `${this.mac} v6`;
  }

  add(): string {
    return replaceFdbLine(this.#device, this.mac, this.destination);
  }

  remove(): string {
    return deleteFdbLine(this.#device, this.mac, this.destination);
  }

  isSame(other: KernelObject): boolean {
    return (
      other instanceof FdbObject &&
      this.mac === other.mac &&
      this.destination === other.destination &&
      this.#isPermanent === other.#isPermanent
    );
  }
}

const NEIGHBOUR: ObjectKind = {
  name: 'neighbour',
  tool: 'ip',
  order: 0,
  isShared: false,
  list: listHeldNeighbours,
  compareClaims: compareAge,
  explainLoss: (_object, holder): PeerRefusal => ({
    code: 'conflict',
    reason: `has the same subnet as the older lease ${holder}`,
  }),
};

/**
 * Of two that claim one MAC the lease that was written last has it: the other is one that its host has left, with an
 * address it had before, and that stands until it expires.
 */
const FDB: ObjectKind = {
  name: 'fdb',
  tool: 'bridge',
  order: 0,
  isShared: true,
  list: listHeldFdb,
  compareClaims: compareRecency,
  explainLoss: (object, holder): PeerRefusal => ({
    code: 'invalid',
    reason: `publishes VtepMAC ${(object as FdbObject).mac}, which was published later by ${holder}`,
  }),
};

/** What the vxlan mode has in the kernel for its peers, beside routes. */
export const TUNNEL_KINDS: readonly ObjectKind[] = [NEIGHBOUR, FDB];

async function listHeldNeighbours(kernel: Kernel, { tunnelDevices }: ListScope): Promise<HeldObject[]> {
  return await listEach(tunnelDevices, async (device) =>
    (await kernel.list.neighbours(device))
      .filter(({ isPermanent }) => isPermanent)
      .map((entry) => ({ object: new NeighbourObject(device, entry), isInForce: true, isOurs: true })),
  );
}

/** All zeros is the entry for unknown destinations, which we never set; learned entries age out by themselves. */
const UNKNOWN_MAC = '00:00:00:00:00:00';

async function listHeldFdb(kernel: Kernel, { tunnelDevices }: ListScope): Promise<HeldObject[]> {
  return await listEach(tunnelDevices, async (device) => {
    const seen = new Set<string>();
    return (await kernel.list.fdb(device)).map((entry) => {
      const isInForce = !seen.has(entry.mac); // the kernel uses the first of a MAC
      seen.add(entry.mac);
      const isOurs = entry.isPermanent && entry.mac !== UNKNOWN_MAC;
      return { object: new FdbObject(device, entry), isInForce, isOurs };
    });
  });
}

async function listEach(
  devices: TunnelDevices,
  list: (device: string) => Promise<HeldObject[]>,
): Promise<HeldObject[]> {
  const names = Object.values(devices).filter((device) => device !== undefined);
  return (await Promise.all(names.map(list))).flat();
}
