// `npm run bench -- <what>`: the benchmarks, one file each. Without a word, the comparison with the peers.

const BENCHES: Readonly<Record<string, () => Promise<unknown>>> = {
  compare: async () => (await import('./compare.js')).compare(),
  report: async () => (await import('./compare.js')).report(),
  profile: async () => (await import('./profile.js')).profile(),
  micro: () => import('./micro/micro.js'),
  control: async () => {
    await import('./control.js');
    await import('./first-packet.js');
    await import('./kernel-peers.js');
  },
  kube: () => import('./kube.js'),
  events: () => import('./events.js'),
};

const [what = 'compare'] = process.argv.slice(2).filter((argument) => !argument.startsWith('--'));
const bench = Object.hasOwn(BENCHES, what) ? BENCHES[what] : undefined;
if (bench === undefined) {
  console.error(`Unknown benchmark "${what}": expected one of ${Object.keys(BENCHES).join(', ')}`);
  process.exitCode = 2;
} else {
  bench().catch((error: unknown) => {
    console.error(error instanceof Error ? error.message : error);
    process.exitCode = 1;
  });
}
