// A Kubernetes store with the files and the account of a host, on a stand-in of the API server.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import pino from 'pino';
import { parseFlags } from '../../src/config/flag-parser.js';
import type { OverlayError } from '../../src/core/errors.js';
import type { LeaseUpdate } from '../../src/lease/lease.js';
import { formatAddresses, formatPrefixes } from '../../src/net/prefix.js';
import { type KubeStore, openKubeStore } from '../../src/store/kube/kube-store.js';
import type { MembershipListener } from '../../src/store/store.js';
import type { ApiServer } from './api-server.js';

export const NET_CONF = '{"Network":"10.244.0.0/16","Backend":{"Type":"udp"}}';

/** A kubeconfig for a bearer token. */
export function writeKubeconfig(path: string, server: string, caFile: string, token: string): void {
  const config = {
    apiVersion: 'v1',
    kind: 'Config',
    'current-context': 'it',
    contexts: [{ name: 'it', context: { cluster: 'it', user: 'it' } }],
    clusters: [{ name: 'it', cluster: { server, 'certificate-authority': caFile } }],
    users: [{ name: 'it', user: { token } }],
  };
  writeFileSync(path, JSON.stringify(config));
}

export interface StoreBench {
  readonly store: KubeStore;
  readonly log: string[];
  readonly dir: string;
}

/** A store as `twilld --kube-subnet-mgr` opens it, for the files in `dir`. */
export async function openStoreBench(
  api: ApiServer,
  dir: string,
  settings: { env?: Record<string, string>; args?: readonly string[]; token?: string; netConf?: string } = {},
): Promise<StoreBench> {
  const {
    env = { NODE_NAME: 'node1' },
    args = [],
    token = api.tokens.flannel,
    netConf = NET_CONF,
  } = settings;
  const [ca, kubeconfig, config] = ['ca.crt', 'kubeconfig', 'net-conf.json'].map((name) => join(dir, name));
  writeFileSync(ca, api.authority.cert);
  writeKubeconfig(kubeconfig, api.url, ca, token);
  writeFileSync(config, netConf);
  const parsed = parseFlags(
    [
      '--kube-subnet-mgr',
      `--kubeconfig-file=${kubeconfig}`,
      `--net-config-path=${config}`,
      `--subnet-file=${join(dir, 'subnet.env')}`,
      ...args,
    ],
    {},
  );
  if (parsed.kind !== 'run') throw new TypeError(parsed.kind);
  const log: string[] = [];
  const write = (line: string): void => void log.push((JSON.parse(line) as { msg: string }).msg);
  return { store: await openKubeStore(parsed.flags, pino({}, { write }), env), log, dir };
}

/** What a membership tells, in words. */
export class Listening implements MembershipListener {
  readonly words: string[] = [];
  readonly leases = new Map<string, string>();
  lost: OverlayError | undefined;

  onLeases(update: LeaseUpdate): void {
    const events =
      update.kind === 'events'
        ? update.events
        : update.leases.map((lease) => ({ kind: 'put' as const, lease }));
    if (update.kind === 'snapshot') this.words.push('snapshot');
    for (const event of events) {
      if (event.kind === 'delete') {
        this.words.push(`delete ${event.id}`);
        this.leases.delete(event.id);
        continue;
      }
      const { id, subnets, host } = event.lease;
      const text = `${formatPrefixes(subnets)} ${formatAddresses(host.publicIp)}`;
      this.words.push(`put ${id} ${text}`);
      this.leases.set(id, text);
    }
  }

  onConfig(): void {
    this.words.push('config');
  }

  onConfirmed(): void {
    this.words.push('confirmed');
  }

  onOutdated(): void {
    this.words.push('outdated');
  }

  onOwnLeaseLost(error: OverlayError): void {
    this.lost = error;
  }
}
