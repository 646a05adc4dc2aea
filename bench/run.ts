// `npm run bench -- <what>`: the benchmarks, one file each. Without a word, the comparison with the peers. `--help`
// names them, and the options of each. What a benchmark does not know is refused before anything is measured.

import { checkOptions } from './options.js';

interface Bench {
  readonly question: string;
  /** As the heads of the files explain them: `quick`, or `rounds=N`. */
  readonly options: readonly string[];
  readonly run: () => Promise<unknown>;
}

const BENCHES: Readonly<Record<string, Bench>> = {
  compare: {
    question: 'what containers get through twill and its peers; twenty minutes, --quick three',
    options: ['quick', 'all', 'rounds=N', 'only=SUITE,…', 'keep', 'add', 'dry-run', 'seed=N', 'note=TEXT'],
    run: async () => (await import('./compare.js')).compare(),
  },
  report: {
    question: 'writes the tables and pictures of the newest results; --check only compares them',
    options: ['check'],
    run: async () => (await import('./compare.js')).report(),
  },
  profile: {
    question: "where the machine's time goes",
    options: ['streams=N', 'segmented', 'lane=MODE'],
    run: async () => (await import('./profile.js')).profile(),
  },
  micro: {
    question: 'lookups, tables, checksums, splitting and merging against plain versions',
    options: [],
    run: () => import('./micro/micro.js'),
  },
  control: {
    question: 'how fast the control plane follows etcd and programmes the kernel',
    options: ['leases=N', 'samples=N'],
    run: async () => {
      await import('./control.js');
      await import('./first-packet.js');
      await import('./kernel-peers.js');
    },
  },
  kube: {
    question: 'what it costs to follow a Kubernetes cluster',
    options: ['rounds=N', 'seconds=N', 'modes=MODE,…', 'nodes=N,…'],
    run: () => import('./kube.js'),
  },
  events: {
    question: 'CPU time that a lease event costs a daemon',
    options: ['rounds=N', 'seconds=N', 'rate=N', 'leases=N', 'only=KIND,…', 'node=OPTIONS'],
    run: () => import('./events.js'),
  },
};

function help(): string {
  const lines = Object.entries(BENCHES).flatMap(([name, { question, options }]) => [
    `  ${name.padEnd(8)}  ${question}`,
    ...(options.length > 0 ? [`${' '.repeat(12)}${options.map((option) => `--${option}`).join(' ')}`] : []),
  ]);
  return `npm run bench [-- WHAT [OPTION…]]          WHAT is compare when it is left out\n\n${lines.join('\n')}`;
}

/** The benchmark that is asked for, or why it is refused. */
function chosen(args: readonly string[]): Bench | string {
  const [what = 'compare', ...more] = args.filter((argument) => !argument.startsWith('-'));
  if (!Object.hasOwn(BENCHES, what))
    return `Unknown benchmark "${what}": expected one of ${Object.keys(BENCHES).join(', ')}`;
  if (more.length > 0) return `"${more[0]}" is one word too many: expected one benchmark, and options`;
  const bench = BENCHES[what];
  return checkOptions(args, bench.options) ?? bench;
}

async function main(args: readonly string[]): Promise<void> {
  if (args.includes('--help') || args.includes('-h')) {
    console.log(help());
    return;
  }
  const bench = chosen(args);
  if (typeof bench !== 'string') {
    await bench.run();
    return;
  }
  console.error(`${bench}; --help names all`);
  process.exitCode = 2;
}

main(process.argv.slice(2)).catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});
