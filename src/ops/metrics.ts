// Metrics in Prometheus' text format. Values are read when they are scraped; nothing is counted here. The library is
// loaded at the first scrape: a start should not wait for it.

import type prom from 'prom-client';
import type { Counter, Gauge, Registry } from 'prom-client';
import type { MetricFamily } from '../core/metric.js';

export interface MetricSources {
  /** All families of this moment, names without prefix. */
  readonly families: () => readonly MetricFamily[];
  readonly version: string;
}

export interface RenderedMetrics {
  readonly contentType: string;
  readonly body: string;
}

type Library = typeof prom;

const PREFIX = 'twill_';

/** The metrics of one daemon. */
export class Metrics {
  readonly #sources: MetricSources;
  #loaded: Promise<{ library: Library; process: Registry }> | undefined;

  constructor(sources: MetricSources) {
    this.#sources = sources;
  }

  /** All families, those with the same name joined, and those of the process. */
  async render(): Promise<RenderedMetrics> {
    this.#loaded ??= load(this.#sources.version);
    const { library, process } = await this.#loaded;
    const registry = new library.Registry();
    const families = new Map<string, Counter | Gauge>();
    for (const { name, help, type, values } of this.#sources.families()) {
      for (const { labels, value } of values) {
        let family = families.get(name);
        if (family === undefined) {
          const options = {
            name: PREFIX + name,
            help,
            labelNames: Object.keys(labels),
            registers: [registry],
          };
          family = type === 'counter' ? new library.Counter(options) : new library.Gauge(options);
          families.set(name, family);
        }
        family.inc(labels, value);
      }
    }
    const body = `${await registry.metrics()}\n${await process.metrics()}`;
    return { contentType: process.contentType, body };
  }
}

async function load(version: string): Promise<{ library: Library; process: Registry }> {
  const { default: library } = await import('prom-client');
  const registry = new library.Registry();
  library.collectDefaultMetrics({ register: registry });
  // Gauges under a counter's suffix, which `promtool check metrics` refuses; each is the sum of the family without it.
  for (const name of ['handles', 'requests', 'resources'])
    registry.removeSingleMetric(`nodejs_active_${name}_total`);
  const build = new library.Gauge({
    name: `${PREFIX}build_info`,
    help: 'Always 1; the version is a label.',
    labelNames: ['version'],
    registers: [registry],
  });
  build.set({ version }, 1);
  return { library, process: registry };
}
