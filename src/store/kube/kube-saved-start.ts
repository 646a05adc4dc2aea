// The table that the last run of this host saved, for a start while the API server is away.

import type { Logger } from '../../core/log.js';
import { mapDual } from '../../net/dual.js';
import type { DualAddress } from '../../net/prefix.js';
import type { CachedTable, SavedStart } from '../store.js';
import { loadPublicIp, loadTable } from '../table-cache.js';
import { NODE_PUBLIC_IP_FROM } from './annotations.js';
import type { KubeClient } from './api/client.js';
import { parseNetConfig } from './net-config-file.js';

export interface KubeSavedStartOptions {
  readonly client: Pick<KubeClient, 'isListening'>;
  readonly path: string;
  /** See tableSource(). */
  readonly source: string;
  readonly log: Logger;
}

/** What tells one overlay's saved table from another's: the public IP inside the table does the rest. */
export function tableSource(prefix: string): string {
  return `kube:${prefix}`;
}

export class KubeSavedStart implements SavedStart {
  readonly #options: KubeSavedStartOptions;

  constructor(options: KubeSavedStartOptions) {
    this.#options = options;
  }

  async isAway(): Promise<boolean> {
    return !(await this.#options.client.isListening());
  }

  table(): CachedTable | undefined {
    const { path, source, log } = this.#options;
    const saved = loadTable(path, source, log);
    if (saved === undefined) return undefined;
    try {
      const config = parseNetConfig(saved.configText, `saved table "${path}"`);
      const { ownSubnets, ownHost, hintedPublicIp, leases, savedAt } = saved;
      const publicIpFrom = mapDual(NODE_PUBLIC_IP_FROM, (from) => `${from} (saved)`);
      const hints = { publicIp: hintedPublicIp, publicIpFrom, backend: ownHost.backend };
      return { config, ownSubnets, ownHost, hints, leases, savedAt };
    } catch (error) {
      log.warn({ path }, `ignoring saved lease table: ${(error as Error).message}`);
      return undefined;
    }
  }

  formerPublicIp(): DualAddress | undefined {
    return loadPublicIp(this.#options.path, this.#options.source);
  }
}
