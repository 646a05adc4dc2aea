// Question: what does a form of the CNI plugin cost a node that starts many pods at once?
//
// One host with Debian's bridge and host-local, and PODS namespaces. For each form in turn, SAMPLES times: its start
// (VERSION, one process), ADD of all pods at once, and DEL of all. In a round of their own, because looking costs a
// core: what all processes of the plugin, without their delegates, hold in memory at the worst moment of ADD. The
// delegate alone, with the configuration that the plugin makes for it, is the baseline of every run. Medians.
//
//   npx tsx bench/cni.ts [--samples=N] [--pods=N] [NAME=COMMAND]...     default: twill-cni=build/Release/twill-cni

import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Host, LAB_PROGRAMS, Lab, PROJECT_ROOT } from '../test/support/lab.js';
import { formatTable } from '../test/support/measure.js';
import { ensurePackages } from '../test/support/packages.js';
import { numberOption } from './options.js';

const PLUGINS = '/usr/lib/cni';
const BASELINE = 'bridge alone';

interface Form {
  readonly name: string;
  readonly command: readonly string[];
}

interface Burst {
  readonly wallMs: number;
  readonly cpuMs: number;
  readonly failed: number;
  readonly rssKiB: number;
  readonly pssKiB: number;
}

function formsOf(args: readonly string[]): Form[] {
  const given = args.filter((arg) => !arg.startsWith('--'));
  const forms = given.length > 0 ? given : [`twill-cni=${join(PROJECT_ROOT, 'build/Release/twill-cni')}`];
  return forms.map((text) => {
    const at = text.indexOf('=');
    return { name: text.slice(0, at), command: text.slice(at + 1).split(' ') };
  });
}

class Bench {
  readonly #lab: Lab;
  readonly #host: Host;
  readonly #program: string;
  readonly #pods: number;
  readonly #config: string;
  readonly #composed: string;

  constructor(lab: Lab, pods: number) {
    this.#lab = lab;
    this.#pods = pods;
    this.#host = lab.addHost(1, { subnet: undefined });
    lab.ip(this.#host.ns, 'link delete cni0');
    this.#program = lab.compile('bench/load/cni-burst.cc');
    for (let i = 1; i <= pods; i++) lab.addNamespace(`pod${i}`);
    const file = (name: string): string => join(this.#host.dir, name);
    writeFileSync(
      file('subnet.env'),
      'FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.1.1/24\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=true\n',
    );
    this.#config = file('config.json');
    this.#composed = file('composed.json');
    const delegate = { hairpinMode: true, isDefaultGateway: true };
    const ipam = { dataDir: file('networks') };
    writeFileSync(
      this.#config,
      JSON.stringify({
        ...{ cniVersion: '0.3.1', name: 'cbr0', type: 'flannel', delegate, ipam },
        ...{ subnetFile: file('subnet.env'), dataDir: file('kept') },
      }),
    );
    const ranges = [[{ subnet: '10.5.1.0/24' }]];
    writeFileSync(
      this.#composed,
      JSON.stringify({
        ...{ ...delegate, cniVersion: '0.3.1', name: 'cbr0', type: 'bridge', mtu: 1472, ipMasq: false },
        ...{
          isGateway: true,
          ipam: { ...ipam, type: 'host-local', ranges, routes: [{ dst: '10.5.0.0/16' }] },
        },
      }),
    );
  }

  async run(
    form: Form,
    command: string,
    count = this.#pods,
    more: Record<string, string> = {},
  ): Promise<Burst> {
    const input = form.name === BASELINE ? this.#composed : this.#config;
    const args = [String(count), input, ...form.command];
    const { stdout } = await this.#lab.run(this.#host.ns, this.#program, args, {
      env: {
        CNI_COMMAND: command,
        CNI_CONTAINERID: 'pod%d',
        CNI_NETNS: `/run/netns/${this.#lab.switchNs.replace(/sw$/, 'pod%d')}`,
        CNI_IFNAME: 'eth0',
        CNI_PATH: PLUGINS,
        ...more,
      },
    });
    const burst = JSON.parse(stdout) as Burst;
    if (burst.failed > 0) throw new Error(`${form.name}: ${burst.failed} of ${count} ${command} failed`);
    return burst;
  }
}

const middle = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1];

async function main(): Promise<void> {
  if (process.getuid?.() !== 0)
    throw new Error('The benchmark makes network namespaces and must run as root.');
  ensurePackages([...LAB_PROGRAMS, join(PLUGINS, 'bridge')]);
  const samples = numberOption('samples', 7);
  const pods = numberOption('pods', 50, 200);
  const baseline = { name: BASELINE, command: [join(PLUGINS, 'bridge')] };
  const forms = [baseline, ...formsOf(process.argv.slice(2))];
  const lab = Lab.open('cnibench-');
  try {
    const bench = new Bench(lab, pods);
    const starts = new Map<Form, Burst[]>(forms.map((form) => [form, []]));
    const adds = new Map<Form, Burst[]>(forms.map((form) => [form, []]));
    const dels = new Map<Form, Burst[]>(forms.map((form) => [form, []]));
    const memory = new Map<Form, Burst>();
    // Round 0 warms up.
    for (let round = 0; round <= samples; round++) {
      for (const form of forms) {
        for (let i = 0; i < 5; i++) {
          const start = await bench.run(form, 'VERSION', 1);
          if (round > 0) starts.get(form)!.push(start);
        }
        const add = await bench.run(form, 'ADD');
        const del = await bench.run(form, 'DEL');
        if (round === 0) continue;
        adds.get(form)!.push(add);
        dels.get(form)!.push(del);
      }
    }
    for (const form of forms) {
      memory.set(form, await bench.run(form, 'ADD', pods, { SAMPLE: '1' }));
      await bench.run(form, 'DEL');
    }
    const load = readFileSync('/proc/loadavg', 'utf8').split(' ').slice(0, 2).join(' ');
    console.log(`${pods} pods, ${samples} samples, load ${load}`);
    const ms = (bursts: readonly Burst[], key: 'wallMs' | 'cpuMs', digits = 0): string =>
      middle(bursts.map((burst) => burst[key])).toFixed(digits);
    const range = (bursts: readonly Burst[]): string => {
      const walls = bursts.map(({ wallMs }) => wallMs);
      return `${ms(bursts, 'wallMs')} (${Math.min(...walls).toFixed(0)}-${Math.max(...walls).toFixed(0)})`;
    };
    const mib = (kib: number): string => (kib / 1024).toFixed(1);
    console.log(
      formatTable([
        ['form', 'file MB', 'start ms', 'start CPU', 'ADD ms', 'CPU', 'DEL ms', 'RSS MiB', 'PSS MiB'],
        ...forms.map((form) => [
          form.name,
          (statSync(form.command[0]).size / 1e6).toFixed(2),
          ms(starts.get(form)!, 'wallMs', 1),
          ms(starts.get(form)!, 'cpuMs', 1),
          range(adds.get(form)!),
          ms(adds.get(form)!, 'cpuMs'),
          ms(dels.get(form)!, 'wallMs'),
          mib(memory.get(form)!.rssKiB),
          mib(memory.get(form)!.pssKiB),
        ]),
      ]),
    );
  } finally {
    await lab.close();
  }
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});
