// The network config key, followed while the daemon runs.
//
// A valid new config goes to the daemon; a missing or invalid one changes nothing and is shown by /readyz until it is
// good again. flanneld never looks at the key after its start.

import { parseNetworkConfig } from '../../config/network-config.js';
import type { NetworkConfig } from '../../config/network-config.js';
import type { KvEntry } from './etcd-kv.js';
import { RangeMirror } from './range-mirror.js';
import type { MirrorOptions } from './range-mirror.js';
import { showKey } from './keys.js';

export interface ConfigWatchOptions extends Omit<MirrorOptions, 'listener'> {
  /** The text the daemon started with. */
  readonly knownText: string | undefined;
  onConfig(config: NetworkConfig, text: string): void;
}

/** Runs from construction until close(). */
export class ConfigWatch {
  readonly #options: ConfigWatchOptions;
  readonly #mirror: RangeMirror;
  #currentText: string | undefined;
  #problem: string | undefined;

  constructor(options: ConfigWatchOptions) {
    this.#options = options;
    this.#currentText = options.knownText;
    this.#mirror = new RangeMirror({
      ...options,
      listener: {
        onSnapshot: (entries) => this.#look(entries.get(options.range.start)),
        onEvents: (events) => {
          const last = events.at(-1);
          this.#look(last?.kind === 'put' ? last.entry : undefined);
        },
      },
    });
  }

  /** What is wrong with the config itself. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** Why the key is not followed right now; undefined when it is. */
  get fault(): string | undefined {
    return this.#mirror.fault;
  }

  close(): Promise<void> {
    return this.#mirror.close();
  }

  #look(entry: KvEntry | undefined): void {
    const key = this.#options.range.start;
    if (entry === undefined)
      return this.#note(`network config "${showKey(key)}" is gone from etcd: keeping the last one`);
    if (entry.value === undefined)
      return this.#note(
        `network config "${showKey(key)}" has ${entry.valueBytes} bytes: keeping the last one`,
      );
    if (entry.value === this.#currentText) return this.#note(undefined);
    let config: NetworkConfig;
    try {
      config = parseNetworkConfig(entry.value, `etcd key "${showKey(key)}"`);
    } catch (error) {
      return this.#note(
        `network config in etcd is invalid, keeping the last one: ${(error as Error).message}`,
      );
    }
    this.#note(undefined);
    this.#currentText = entry.value;
    this.#options.onConfig(config, entry.value);
  }

  #note(problem: string | undefined): void {
    if (problem !== undefined && problem !== this.#problem)
      this.#options.log.error({ code: 'E_CONFIG' }, problem);
    this.#problem = problem;
  }
}
