// `npm run bench -- <what>`: the benchmarks, one file each.

const BENCHES: Readonly<Record<string, () => Promise<unknown>>> = {
  tcp: () => import('./tcp.js'),
  control: async () => {
    await import('./control.js');
    await import('./first-packet.js');
    await import('./kernel-peers.js');
  },
};

const [what = 'tcp'] = process.argv.slice(2).filter((argument) => !argument.startsWith('--'));
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
