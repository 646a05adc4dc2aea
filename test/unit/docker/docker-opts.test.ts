// The program is run as it is installed; texts are those of flannel's documents.

import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';

const PROGRAM = fileURLToPath(new URL('../../../dist/docker/mk-docker-opts.js', import.meta.url));

const SUBNET_ENV =
  'FLANNEL_NETWORK=10.1.0.0/16\nFLANNEL_SUBNET=10.1.74.1/24\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=false\n';

interface Outcome {
  readonly status: number;
  readonly stderr: string;
  readonly output: string | undefined;
}

async function mkDockerOpts(
  subnetEnv: string | undefined,
  args: readonly string[] = [],
  env: Record<string, string> = {},
): Promise<Outcome> {
  const folder = await mkdtemp(join(tmpdir(), 'twill-docker-'));
  try {
    const input = join(folder, 'subnet.env');
    const output = join(folder, 'docker');
    if (subnetEnv !== undefined) await writeFile(input, subnetEnv);
    const words = [PROGRAM, '-f', input, '-d', output, ...args];
    const options = { env: { PATH: process.env['PATH'], ...env } };
    const result = await new Promise<Omit<Outcome, 'output'>>((resolve) => {
      execFile(process.execPath, words, options, (error, _stdout, stderr) => {
        resolve({ status: typeof error?.code === 'number' ? error.code : 0, stderr });
      });
    });
    return { ...result, output: await readFile(output, 'utf8').catch(() => undefined) };
  } finally {
    await rm(folder, { recursive: true });
  }
}

const BIP = 'DOCKER_OPT_BIP="--bip=10.1.74.1/24"\n';
const IPMASQ = 'DOCKER_OPT_IPMASQ="--ip-masq=true"\n';
const MTU = 'DOCKER_OPT_MTU="--mtu=1472"\n';
const ALL = ' --bip=10.1.74.1/24 --ip-masq=true --mtu=1472';

const CASES: readonly (readonly [string, Parameters<typeof mkDockerOpts>, string])[] = [
  ['neither -i nor -c', [SUBNET_ENV], `${BIP}${IPMASQ}${MTU}DOCKER_OPTS="${ALL}"\n`],
  ['-i', [SUBNET_ENV, ['-i']], `${BIP}${IPMASQ}${MTU}`],
  ['-c', [SUBNET_ENV, ['-c']], `DOCKER_OPTS="${ALL}"\n`],
  ['-ic', [SUBNET_ENV, ['-ic']], `${BIP}${IPMASQ}${MTU}DOCKER_OPTS="${ALL}"\n`],
  ['-k', [SUBNET_ENV, ['-c', '-k', 'CUSTOM_KEY']], `CUSTOM_KEY="${ALL}"\n`],
  ['-k joined', [SUBNET_ENV, ['-ckCUSTOM_KEY']], `CUSTOM_KEY="${ALL}"\n`],
  ['-m', [SUBNET_ENV, ['-m']], `${BIP}${MTU}DOCKER_OPTS=" --bip=10.1.74.1/24 --mtu=1472"\n`],
  [
    'the unit of Fedora',
    [
      'FLANNEL_SUBNET=10.5.72.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n',
      ['-k', 'DOCKER_NETWORK_OPTIONS'],
    ],
    'DOCKER_OPT_BIP="--bip=10.5.72.1/24"\nDOCKER_OPT_IPMASQ="--ip-masq=true"\nDOCKER_OPT_MTU="--mtu=1450"\n' +
      'DOCKER_NETWORK_OPTIONS=" --bip=10.5.72.1/24 --ip-masq=true --mtu=1450"\n',
  ],
  [
    'masquerading done by the daemon',
    ['FLANNEL_SUBNET=10.10.81.1/24\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=true\n', ['-c']],
    'DOCKER_OPTS=" --bip=10.10.81.1/24 --ip-masq=false --mtu=1472"\n',
  ],
  [
    'inherited variables',
    [SUBNET_ENV, [], { DOCKER_OPT_STORAGE: '-s overlay', DOCKER_OPTS: '--debug' }],
    `${BIP}${IPMASQ}${MTU}DOCKER_OPT_STORAGE="-s overlay"\nDOCKER_OPTS="--debug ${ALL} -s overlay"\n`,
  ],
  ['no subnet file', [undefined], 'DOCKER_OPTS=""\n'],
  [
    'IPv6 only',
    ['FLANNEL_IPV6_SUBNET=fc00::1/64\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n'],
    'DOCKER_OPT_IPMASQ="--ip-masq=false"\nDOCKER_OPT_MTU="--mtu=1450"\nDOCKER_OPTS=" --ip-masq=false --mtu=1450"\n',
  ],
  [
    'both families: flannel’s script knows no --fixed-cidr-v6 and no --ip6tables',
    [
      'FLANNEL_NETWORK=10.1.0.0/16\nFLANNEL_SUBNET=10.1.74.1/24\nFLANNEL_IPV6_NETWORK=fc00::/48\n' +
        'FLANNEL_IPV6_SUBNET=fc00:0:0:1::1/64\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=false\n',
    ],
    `${BIP}${IPMASQ}${MTU}DOCKER_OPTS="${ALL}"\n`,
  ],
  [
    'quotes and comments',
    ['# by hand\nexport FLANNEL_MTU="1450"\n', ['-i']],
    'DOCKER_OPT_MTU="--mtu=1450"\n',
  ],
  ['a file that would run commands', ['FLANNEL_MTU=$(reboot)\nFLANNEL_IPMASQ=`id`\n'], 'DOCKER_OPTS=""\n'],
];

for (const [what, input, expected] of CASES) {
  t.test(`mk-docker-opts: ${what}`, async (t) => {
    t.strictSame(await mkDockerOpts(...input), { status: 0, stderr: '', output: expected });
  });
}

t.test('mk-docker-opts refuses a value it cannot pass on, and writes nothing', async (t) => {
  for (const line of ['FLANNEL_IPMASQ=maybe', 'FLANNEL_SUBNET=10.1.74.1', 'FLANNEL_MTU=big']) {
    const [name, value] = line.split('=');
    const stderr = `Invalid value of ${name}: ${value}\n`;
    t.strictSame(await mkDockerOpts(`${line}\n`), { status: 1, stderr, output: undefined });
  }
});

t.test('mk-docker-opts shows its usage for what it does not know', async (t) => {
  for (const args of [['-h'], ['-?'], ['-x'], ['-k']]) {
    const { status, stderr, output } = await mkDockerOpts(SUBNET_ENV, args);
    t.strictSame([status, output], [1, undefined]);
    t.match(stderr, /^usage: mk-docker-opts/);
  }
});
