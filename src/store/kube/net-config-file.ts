// The network config of a Kubernetes cluster: net-conf.json, a key of the ConfigMap kube-flannel-cfg, as a file.
//
// kubelet replaces a mounted ConfigMap by another link, some minute after it was edited. The file is looked at every
// POLL_MS; one that is gone or invalid changes nothing and is shown by /readyz until it is good again. flanneld reads
// it once.

import { type NetworkConfig, parseNetworkConfig } from '../../config/network-config.js';
import { type Condition, Conditions } from '../../core/conditions.js';
import { messageOf, OverlayError } from '../../core/errors.js';
import type { Logger } from '../../core/log.js';
import { nap } from '../../core/waiting.js';
import { readSmallFile } from './api/small-file.js';

const POLL_MS = 10_000;
const MAX_FILE_BYTES = 1 << 20; // a ConfigMap has at most 1 MiB

/** The config with the text that it was read from. */
export interface ReadConfig {
  readonly config: NetworkConfig;
  readonly text: string;
}

/** Rejects with OverlayError E_FILE when it cannot be read, E_CONFIG when it is invalid. */
export async function readNetConfig(path: string): Promise<ReadConfig> {
  const text = await readText(path);
  return { config: parseNetConfig(text, path), text };
}

/** `source` says where it came from. Throws OverlayError E_CONFIG. */
export function parseNetConfig(text: string, source: string): NetworkConfig {
  return parseNetworkConfig(text, source, 'store');
}

async function readText(path: string): Promise<string> {
  try {
    return (await readSmallFile(path, 'network config', MAX_FILE_BYTES)).toString();
  } catch (error) {
    const expected = 'expected a file with the network config (--net-config-path)';
    throw new OverlayError('E_FILE', `${messageOf(error)}: ${expected}`, { cause: error });
  }
}

export interface NetConfigWatchOptions {
  readonly path: string;
  /** What the daemon runs with. */
  readonly text: string;
  readonly log: Logger;
  readonly onConfig: (config: NetworkConfig, text: string) => void;
}

/** Looks at the file from construction until close(). */
export class NetConfigWatch {
  readonly #options: NetConfigWatchOptions;
  readonly #conditions = new Conditions();
  readonly #closing = new AbortController();
  readonly #done: Promise<void>;
  #text: string;

  constructor(options: NetConfigWatchOptions, pollMs = POLL_MS) {
    this.#options = options;
    this.#text = options.text;
    this.#done = this.#run(pollMs);
  }

  conditions(): readonly Condition[] {
    return this.#conditions.list();
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#done;
  }

  /** One look after the other: a slow disk must not let an old one speak last. Never rejects. */
  async #run(pollMs: number): Promise<void> {
    const { signal } = this.#closing;
    for (;;) {
      await nap(pollMs, signal);
      if (signal.aborted) return;
      await this.#look();
    }
  }

  /** Never rejects. */
  async #look(): Promise<void> {
    const { path, log, onConfig } = this.#options;
    try {
      const text = await readText(path);
      if (text !== this.#text) {
        const config = parseNetConfig(text, path);
        this.#text = text;
        onConfig(config, text);
      }
      this.#conditions.release('config-invalid');
    } catch (error) {
      const problem = `${messageOf(error)}; the last good one is used`;
      if (problem !== this.#conditions.textOf('config-invalid')) log.error(problem);
      this.#conditions.hold('config-invalid', problem);
    }
  }
}
