// Metrics in Prometheus' text format. Values are read when they are scraped; nothing is counted here.

import { collectDefaultMetrics, Counter, Gauge, Registry } from 'prom-client';
import type { BackendCounter } from '../backend/backend.js';

export interface MetricSources {
  /** Families of the backend, names without prefix. */
  readonly backend: () => readonly BackendCounter[];
  /** Families of the daemon. */
  readonly gauges: () => readonly BackendCounter[];
  readonly version: string;
}

const PREFIX = 'twill_';

/** The registry of one daemon. */
export class Metrics {
  readonly #sources: MetricSources;
  readonly #process = new Registry();

  constructor(sources: MetricSources) {
    this.#sources = sources;
    collectDefaultMetrics({ register: this.#process });
    const build = new Gauge({
      name: `${PREFIX}build_info`,
      help: 'Always 1; the version is a label.',
      labelNames: ['version'],
      registers: [this.#process],
    });
    build.set({ version: sources.version }, 1);
  }

  get contentType(): string {
    return this.#process.contentType;
  }

  /** All families, those with the same name joined. */
  async render(): Promise<string> {
    const registry = new Registry();
    const families = new Map<string, Counter | Gauge>();
    for (const { name, help, type, values } of [...this.#sources.backend(), ...this.#sources.gauges()]) {
      for (const { labels, value } of values) {
        let family = families.get(name);
        if (family === undefined) {
          const options = {
            name: PREFIX + name,
            help,
            labelNames: Object.keys(labels),
            registers: [registry],
          };
          families.set(name, (family = type === 'counter' ? new Counter(options) : new Gauge(options)));
        }
        family.inc(labels, value);
      }
    }
    return `${await registry.metrics()}\n${await this.#process.metrics()}`;
  }
}
