// The kernel as the programmer and the kernel modes see it: lists, lookups, and batches of changes.
//
// It is passed in, so that a test can put a fake with the same semantics in its place (test/support/fake-kernel.ts).

import { listFdb, type FdbEntry } from './fdb.js';
import { type BatchFailure, type BatchTool, ip, ipBatch } from './ip.js';
import { type Features, readFeature, readFeatures, setFeatures } from './ethtool.js';
import {
  addAddress,
  createLink,
  deleteAddress,
  deleteLink,
  findLink,
  hasCarrier,
  type Link,
  type LinkSettings,
  listLinks,
  nameOfLink,
  setLink,
} from './link.js';
import { countIpsecPolicies } from './ipsec.js';
import { readInterfaceSysctl, readSysctl, writeInterfaceSysctl } from './sysctl.js';
import { listNeighbours, type Neighbour } from './neigh.js';
import {
  listRoutes,
  lookupExactRoutes,
  lookupRoutes,
  type LookupOptions,
  type Route,
  type RouteLookup,
  type RouteSelector,
} from './route.js';
import type { Address, Prefix } from '../net/prefix.js';

export interface Kernel {
  readonly list: {
    /** In the kernel's order: of several to one prefix, the first of the lowest metric counts. */
    routes(selector: RouteSelector): Promise<readonly Route[]>;
    /** Permanent or not; none when there is no such device. */
    neighbours(device: string): Promise<readonly Neighbour[]>;
    /** Entries that name a host; none when there is no such device. */
    fdb(device: string): Promise<readonly FdbEntry[]>;
  };
  readonly lookup: {
    /** How packets would leave, in the order of `destinations`; undefined where there is no route. */
    routes(
      destinations: readonly Address[],
      options?: LookupOptions,
    ): Promise<readonly (RouteLookup | undefined)[]>;
    /** The route of exactly each prefix that packets follow; undefined where they follow another. */
    exactRoutes(prefixes: readonly Prefix<Address>[]): Promise<readonly (Route | undefined)[]>;
    /** The name that the link of this index has now; undefined when there is none. */
    linkName(link: { readonly index: number; readonly name: string }): Promise<string | undefined>;
  };
  /** Runs each line as a command of `tool`; resolves with the refused ones, in order. */
  perform(tool: BatchTool, lines: readonly string[]): Promise<readonly BatchFailure[]>;
  /** Network devices, as kernel/link.ts has them. */
  readonly links: {
    all(signal?: AbortSignal): Promise<readonly Link[]>;
    find(name: string, signal?: AbortSignal): Promise<Link | undefined>;
    hasCarrier(name: string): Promise<boolean>;
    create(name: string, kindArguments: readonly string[], signal?: AbortSignal): Promise<void>;
    delete(name: string, signal?: AbortSignal): Promise<void>;
    set(name: string, settings: LinkSettings, signal?: AbortSignal): Promise<void>;
    /** `ip link set dev <name> <words>`, such as ["type", "vxlan", …]. */
    change(name: string, words: readonly string[], signal?: AbortSignal): Promise<void>;
    addAddress(name: string, address: Prefix<Address>, signal?: AbortSignal): Promise<void>;
    deleteAddress(name: string, address: Prefix<Address>, signal?: AbortSignal): Promise<void>;
  };
  /** What ethtool, sysctl and ipsec.ts tell and set; see there. */
  readonly settings: {
    features(name: string, signal?: AbortSignal): Promise<Features | undefined>;
    feature(name: string, feature: string, signal?: AbortSignal): Promise<boolean | undefined>;
    setFeatures(name: string, features: Features, signal?: AbortSignal): Promise<void>;
    sysctl(key: string): Promise<string | undefined>;
    ipsecPolicies: typeof countIpsecPolicies;
    interfaceSysctl: typeof readInterfaceSysctl;
    setInterfaceSysctl: typeof writeInterfaceSysctl;
  };
}

/** The kernel of this network namespace, by way of iproute2. All reject with OverlayError E_KERNEL. */
export const KERNEL: Kernel = {
  list: { routes: listRoutes, neighbours: listNeighbours, fdb: listFdb },
  lookup: { routes: lookupRoutes, exactRoutes: lookupExactRoutes, linkName: nameOfLink },
  perform: (tool, lines) => ipBatch(lines, { tool }),
  links: {
    all: listLinks,
    find: findLink,
    hasCarrier,
    create: createLink,
    delete: deleteLink,
    set: setLink,
    change: async (name, words, signal) => void (await ip(['link', 'set', 'dev', name, ...words], signal)),
    addAddress,
    deleteAddress,
  },
  settings: {
    features: readFeatures,
    feature: readFeature,
    setFeatures,
    sysctl: readSysctl,
    ipsecPolicies: countIpsecPolicies,
    interfaceSysctl: readInterfaceSysctl,
    setInterfaceSysctl: writeInterfaceSysctl,
  },
};
