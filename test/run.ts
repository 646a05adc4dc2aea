// Runs all tests and closes with one line: "N passed, N failed, N skipped".
//
// Groups run one after the other; inside a group, files that share nothing but the CPU run side by side. A lab has the
// machine to itself, unless WAITING_LABS or PAIRED_LABS names it. Without root, what needs it is skipped and counted.

import { spawn } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { ensureKubeBinaries, kubeUnavailable } from './support/kube-cluster/binaries.js';
import { fetchKubeTools } from './support/kube-tools.js';
import { ensurePackages } from './support/packages.js';

const ROOT = new URL('..', import.meta.url).pathname;

const PROGRAMS = [
  'ip',
  'ping',
  'tracepath',
  'iperf3',
  'tcpdump',
  'nft',
  'iptables',
  'conntrack',
  'ethtool',
  'setpriv',
  'socat',
  'ps',
  'python3',
  'etcd',
  'etcdctl',
  'openssl',
  '/usr/lib/cni/bridge',
];

/**
 * Labs that mostly wait, for timers and for what another host does next: these run side by side. A lab may be named
 * here when it asserts no rate, no latency, no loss under load and no CPU time, and holds no lock of the whole machine,
 * as /run/xtables.lock is one; all else it has of its own, in network namespaces and folders named after its process.
 */
const WAITING_LABS: ReadonlySet<string> = new Set(
  [
    ...['api', 'bad-input', 'cleanup', 'cli', 'cni', 'cni-ipv6', 'counters', 'dead-dns', 'descriptors'],
    ...['device-lost', 'docker-opts', 'etcd', 'etcd-families', 'families'],
    ...['foreign-routes', 'health', 'host-gw', 'hosts-in-network', 'inner-ipv6', 'kube', 'kube-bad-input'],
    ...['kube-memory', 'lane-ipsec', 'lease-loss', 'memory', 'migrate', 'modes', 'monitor', 'narrow-path'],
    ...['options', 'probes', 'public-ip', 'raw-icmp', 'reach', 'reach-families', 'read-only-sys', 'repair'],
    ...['reverse-path', 'service', 'start-again', 'two-daemons', 'udp-families', 'underlay'],
    ...['underlay-ipv6', 'uplink-ipv6', 'vxlan', 'vxlan-guard', 'vxlan-repair'],
  ].map(labFile),
);

/**
 * Labs that keep a core busy, yet assert no rate, no latency and no loss that another one could cause: two at a time.
 */
const PAIRED_LABS: ReadonlySet<string> = new Set(
  ['admission', 'bad-link', 'firewall', 'firewall-ipv6', 'flows', 'handover', 'icmp', 'overlay'].map(labFile),
);

/** What takes by far the longest of its group starts first, so that nothing has to wait for it alone in the end. */
const LONGEST: readonly string[] = ['test/native/native.test.ts', 'test/etcd/outage.test.ts'];

function labFile(name: string): string {
  return `test/lab/${name}.test.ts`;
}

/** Of the tests with a real API server, those that have the machine to themselves. */
const KUBE_LABS: ReadonlySet<string> = new Set(['test/kube/overlay.test.ts']);

const KUBE = { unavailable: kubeUnavailable, ensure: ensureKubeBinaries } as const;

interface Group {
  readonly name: string;
  readonly directories: readonly string[];
  /** Which of the files there; all, when it is not given. */
  readonly holds?: (file: string) => boolean;
  readonly jobs: number;
  readonly timeoutSeconds: number;
  /** Runs only when it is named. */
  readonly isOnDemand?: true;
  /** What takes long to get: got when the group is named. */
  readonly needs?: { readonly unavailable: () => string | false; readonly ensure: () => void };
}

const GROUPS: readonly Group[] = [
  {
    name: 'unit',
    directories: ['test/unit', 'test/repo', 'test/boundary', 'bench'],
    jobs: 2,
    timeoutSeconds: 120,
  },
  { name: 'native', directories: ['test/native'], jobs: 2, timeoutSeconds: 600 },
  { name: 'etcd', directories: ['test/etcd'], jobs: 4, timeoutSeconds: 240 },
  {
    name: 'kube',
    directories: ['test/kube'],
    holds: (file) => !KUBE_LABS.has(file),
    jobs: 2,
    timeoutSeconds: 240,
    needs: KUBE,
    isOnDemand: true, // the stand-in, which a test there holds against the real server, is in the unit tests
  },
  {
    name: 'kube-lab',
    directories: ['test/kube'],
    holds: (file) => KUBE_LABS.has(file),
    jobs: 1,
    timeoutSeconds: 500,
    needs: KUBE,
    isOnDemand: true, // lab/kube runs the same suite on the stand-in
  },
  {
    name: 'lab-waiting',
    directories: ['test/lab'],
    holds: (file) => WAITING_LABS.has(file),
    jobs: 4,
    timeoutSeconds: 240,
  },
  {
    name: 'lab-paired',
    directories: ['test/lab'],
    holds: (file) => PAIRED_LABS.has(file),
    jobs: 2,
    timeoutSeconds: 240,
  },
  {
    name: 'lab',
    directories: ['test/lab'],
    holds: (file) => !WAITING_LABS.has(file) && !PAIRED_LABS.has(file),
    jobs: 1,
    timeoutSeconds: 240,
  },
  { name: 'packages', directories: ['test/packages'], jobs: 1, timeoutSeconds: 1200, isOnDemand: true },
];

interface Totals {
  passed: number;
  failed: number;
  skipped: number;
  /** A line for each assertion, test and file that failed, the innermost first. */
  readonly failures: string[];
}

function testFiles(directory: string): string[] {
  const path = join(ROOT, directory);
  if (!existsSync(path)) return [];
  return readdirSync(path, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.test.ts'))
    .map((name) => join(directory, name))
    .sort();
}

function longestFirst(files: readonly string[]): string[] {
  const isLong = (file: string): boolean => LONGEST.includes(file);
  return [...files.filter(isLong), ...files.filter((file) => !isLong(file))];
}

/** Runs files; shows a line for each, and all of a file's output when something in it failed. */
function runGroup(group: Group, files: readonly string[]): Promise<Totals> {
  const args = ['--import', 'tsx', 'test/files.ts', `${group.jobs}`, `${group.timeoutSeconds}`, ...files];
  const child = spawn(process.execPath, args, { cwd: ROOT, stdio: ['ignore', 'pipe', 'inherit'] });
  let pending: string[] = [];
  let rest = '';
  const totals: Totals = { passed: 0, failed: 0, skipped: 0, failures: [] };
  const showPending = (): void => {
    console.log(pending.join('\n'));
    totals.failures.push(...pending.filter((text) => /^ *not ok /.test(text)));
    pending = [];
  };
  child.stdout.setEncoding('utf8');
  child.stdout.on('data', (chunk: string) => {
    const lines = (rest + chunk).split('\n');
    rest = lines.pop()!;
    for (const line of lines) {
      pending.push(line);
      if (/^ok \d+ - /.test(line)) {
        console.log(line);
        pending = [];
      } else if (line === '  ...') showPending(); // it ends what follows "not ok", as code and signal
      const count = (key: string): number => Number(new RegExp(`\\b${key}: (\\d+)`).exec(line)?.[1] ?? 0);
      if (line.startsWith('# { total:')) {
        totals.passed = count('pass');
        totals.failed = count('fail');
        totals.skipped = count('skip') + count('todo');
      }
    }
  });
  return new Promise((resolve) => {
    child.once('close', (code) => {
      // A run that ended badly without saying why is a failure too.
      if (totals.failed === 0 && (code !== 0 || totals.passed + totals.skipped === 0)) totals.failed = 1;
      if (totals.failed > 0) showPending();
      resolve(totals);
    });
  });
}

async function main(): Promise<void> {
  if (process.getuid?.() === 0) ensurePackages(PROGRAMS);
  for (const file of [...WAITING_LABS, ...PAIRED_LABS, ...LONGEST, ...KUBE_LABS])
    if (!existsSync(join(ROOT, file))) throw new Error(`no ${file}`);
  const wanted = process.argv.slice(2);
  try {
    fetchKubeTools();
  } catch (error) {
    console.error(`Cannot fetch helm and kubectl, what needs them is skipped: ${(error as Error).message}`);
  }
  const sum: Totals = { passed: 0, failed: 0, skipped: 0, failures: [] };
  for (const group of GROUPS) {
    // "lab" asks for "lab-waiting" and "lab-paired", too.
    const isNamed = wanted.some((name) => `${group.name}-`.startsWith(`${name}-`));
    if (wanted.length > 0 ? !isNamed : group.isOnDemand) continue;
    const files = longestFirst(group.directories.flatMap(testFiles).filter(group.holds ?? (() => true)));
    if (files.length === 0) continue;
    if (isNamed) group.needs?.ensure();
    const lack = group.needs?.unavailable() ?? false;
    if (lack !== false) {
      console.log(`# ${group.name}: ${files.length} files skipped: ${lack}`);
      sum.skipped += files.length;
      continue;
    }
    const startedMs = Date.now();
    const totals = await runGroup(group, files);
    console.log(`# ${group.name}: ${Math.round((Date.now() - startedMs) / 1000)} s`);
    sum.passed += totals.passed;
    sum.failed += totals.failed;
    sum.skipped += totals.skipped;
    sum.failures.push(...totals.failures);
  }
  // Once more at the end, where whoever has only the last lines of a log finds it.
  for (const line of sum.failures) console.log(`# ${line.trim()}`);
  process.exitCode = sum.failed === 0 && sum.passed > 0 ? 0 : 1;
  const skipped = sum.skipped > 0 ? `, ${sum.skipped} skipped` : '';
  console.log(`${sum.passed} passed, ${sum.failed} failed${skipped}`);
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});
