// The text against what flannel writes; the file in a folder of the test's own.

import {
  chmod,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { formatPrefix, parsePrefix } from '../../../src/net/prefix.js';
import {
  formatSubnetFile,
  parseSubnetFile,
  readSubnetFile,
  type SubnetFile,
  writeSubnetFile,
} from '../../../src/overlay/subnet-file.js';

const GOLDEN = new URL('../../fixtures/golden/udp/subnet.env', import.meta.url);
const isRoot = process.getuid?.() === 0;

const CONTENT: SubnetFile = {
  networks: { v4: parsePrefix('10.5.0.0/16')! },
  subnets: { v4: parsePrefix('10.5.1.0/24')! },
  mtuBytes: 1472,
  ipMasq: true,
};

async function folderOf(t: { teardown(fn: () => Promise<void>): unknown }): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'twill-subnet-'));
  t.teardown(() => rm(folder, { recursive: true }));
  return folder;
}

/** Network, subnet and masquerading as read, in words. */
function shown(text: string): string {
  const { networks, subnets, ipMasq } = parseSubnetFile(text, 'f');
  const [network, subnet] = [networks?.v4, subnets?.v4];
  return `${network && formatPrefix(network)} ${subnet && formatPrefix(subnet)} ${ipMasq}`;
}

void t.test('formatSubnetFile() writes flannel’s text, byte for byte', async (t) => {
  t.equal(formatSubnetFile(CONTENT), await readFile(GOLDEN, 'utf8'));
  const other = {
    ...CONTENT,
    subnets: { v4: parsePrefix('10.5.255.252/30')! },
    mtuBytes: 1450,
    ipMasq: false,
  };
  t.equal(
    formatSubnetFile(other),
    'FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.255.253/30\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n',
  );
});

void t.test('writeSubnetFile() makes directories and leaves nothing but the file, mode 0644', async (t) => {
  const folder = await folderOf(t);
  const path = join(folder, 'a', 'b', 'subnet.env');
  const umask = process.umask(0o077);
  t.teardown(() => void process.umask(umask));
  for (const mode of [undefined, 0o600, 0o777]) {
    if (mode !== undefined) await chmod(path, mode);
    await writeSubnetFile(path, CONTENT);
    t.equal((await stat(path)).mode & 0o7777, 0o644);
    t.equal(await readFile(path, 'utf8'), formatSubnetFile(CONTENT));
    t.strictSame(await readdir(join(folder, 'a', 'b')), ['subnet.env']);
  }
});

void t.test('writeSubnetFile() shows readers the old text or the new, never a part', async (t) => {
  const path = join(await folderOf(t), 'subnet.env');
  const versions = [1400, 68, 65507].map((mtuBytes) => ({ ...CONTENT, mtuBytes }));
  const texts = new Set(versions.map(formatSubnetFile));
  await writeSubnetFile(path, versions[0]);
  let isDone = false;
  let reads = 0;
  const torn: string[] = [];
  const readers = Array.from({ length: 8 }, async () => {
    while (!isDone) {
      const text = await readFile(path, 'utf8');
      reads++;
      if (!texts.has(text)) torn.push(text);
    }
  });
  for (let i = 0; i < 60; i++) await writeSubnetFile(path, versions[i % 3]);
  isDone = true;
  await Promise.all(readers);
  t.strictSame(torn, []);
  t.ok(reads > 60, `${reads} reads`);
});

void t.test('writeSubnetFile() never writes through a link or over what is no file', async (t) => {
  const folder = await folderOf(t);
  const victim = join(folder, 'victim');
  await writeFile(victim, 'precious');
  const path = join(folder, 'subnet.env');
  await symlink(victim, path);
  const refused = {
    code: 'E_FILE',
    message: `Cannot write subnet file ${path}: it is a link or no regular file`,
  };
  await t.rejects(writeSubnetFile(path, CONTENT), refused, 'link to a file');
  t.ok((await lstat(path)).isSymbolicLink());
  t.equal(await readFile(victim, 'utf8'), 'precious');
  await rm(path);
  await symlink(join(folder, 'nowhere'), path);
  await t.rejects(writeSubnetFile(path, CONTENT), refused, 'dangling link');
  await rm(path);
  await mkdir(path);
  await t.rejects(writeSubnetFile(path, CONTENT), refused, 'directory');
  await rm(path, { recursive: true });
  // Somebody guesses the temporary name.
  await symlink(victim, join(folder, `.subnet.env.${process.pid}`));
  await writeSubnetFile(path, CONTENT);
  t.equal(await readFile(victim, 'utf8'), 'precious');
  t.strictSame((await readdir(folder)).sort(), ['subnet.env', 'victim']);
});

void t.test('writeSubnetFile() says why it cannot, and leaves the old file', async (t) => {
  const folder = await folderOf(t);
  await writeFile(join(folder, 'file'), '');
  const path = join(folder, 'file', 'subnet.env');
  await t.rejects(writeSubnetFile(path, CONTENT), {
    code: 'E_FILE',
    message: /^Cannot write subnet file .*: E/,
  });
  await t.rejects(writeSubnetFile('/proc/subnet.env', CONTENT), { code: 'E_FILE' });
});

void t.test(
  'writeSubnetFile() leaves the old file in a directory that is not writable',
  { skip: isRoot ? 'root may write everywhere' : false },
  async (t) => {
    const folder = await folderOf(t);
    const path = join(folder, 'subnet.env');
    await writeSubnetFile(path, CONTENT);
    await chmod(folder, 0o555);
    t.teardown(() => chmod(folder, 0o755));
    await t.rejects(writeSubnetFile(path, { ...CONTENT, mtuBytes: 1400 }), {
      code: 'E_FILE',
      message: /EACCES/,
    });
    t.equal(await readFile(path, 'utf8'), formatSubnetFile(CONTENT));
  },
);

void t.test(
  'formatSubnetFile() of either family writes what flanneld wrote, and it is read back',
  async (t) => {
    const folder = new URL('../../fixtures/kube/flanneld/', import.meta.url);
    const [v4, v6] = [parsePrefix('10.244.0.0/16')!, parsePrefix('fd00:244::/48', 6)!];
    const rows: [string, SubnetFile][] = [
      [
        'dual-vxlan',
        {
          networks: { v4, v6 },
          subnets: { v4: parsePrefix('10.244.12.0/24')!, v6: parsePrefix('fd00:244:0:c::/64', 6)! },
          mtuBytes: 1450,
          ipMasq: false,
        },
      ],
      [
        'v6-vxlan',
        {
          networks: { v6 },
          subnets: { v6: parsePrefix('fd00:244:0:15::/64', 6)! },
          mtuBytes: 1450,
          ipMasq: false,
        },
      ],
    ];
    for (const [name, content] of rows) {
      const text = formatSubnetFile(content);
      t.equal(text, await readFile(new URL(`${name}.subnet.env`, folder), 'utf8'), name);
      const { networks, subnets } = content;
      t.strictSame(parseSubnetFile(text, 'f'), { networks, subnets, ipMasq: false, warnings: [] });
    }
  },
);

void t.test('readSubnetFile() reads what was written; a missing file is no warning', async (t) => {
  const folder = await folderOf(t);
  const path = join(folder, 'subnet.env');
  const empty = { networks: undefined, subnets: undefined, ipMasq: undefined };
  t.strictSame(await readSubnetFile(path), { ...empty, warnings: [] });
  await writeSubnetFile(path, CONTENT);
  const { networks, subnets, ipMasq } = CONTENT;
  t.strictSame(await readSubnetFile(path), { networks, subnets, ipMasq, warnings: [] });
  t.strictSame(await readSubnetFile(folder), {
    ...empty,
    warnings: [`cannot read previous subnet file ${folder}: EISDIR`],
  });
  await writeFile(path, '#'.repeat(4097));
  t.strictSame(await readSubnetFile(path), {
    ...empty,
    warnings: [`${path}: 4097 bytes: expected at most 4096`],
  });
});

void t.test('parseSubnetFile() takes the forms of an environment file', (t) => {
  const cases: readonly (readonly [string, string])[] = [
    ['', 'undefined undefined undefined'],
    ['FLANNEL_SUBNET=10.5.72.1/24', 'undefined 10.5.72.0/24 undefined'],
    ['FLANNEL_SUBNET="10.5.72.1/24"\n', 'undefined 10.5.72.0/24 undefined'],
    ["FLANNEL_SUBNET='10.5.72.1/24'\n", 'undefined 10.5.72.0/24 undefined'],
    ['  export FLANNEL_SUBNET=10.5.72.1/24\n', 'undefined 10.5.72.0/24 undefined'],
    ['FLANNEL_SUBNET=10.5.72.1/24  \n', 'undefined 10.5.72.0/24 undefined'],
    ['FLANNEL_SUBNET=10.5.72.1/24\r\nFLANNEL_IPMASQ=true\r\n', 'undefined 10.5.72.0/24 true'],
    ['FLANNEL_SUBNET=10.5.72.1/24 # ours\n', 'undefined 10.5.72.0/24 undefined'],
    ['# FLANNEL_SUBNET=10.5.72.1/24\n', 'undefined undefined undefined'],
    ['FLANNEL_NETWORK=10.5.0.0/16,bad\n', '10.5.0.0/16 undefined undefined'],
    ['FLANNEL_NETWORK=10.5.0.0/16,10.6.0.0/16\n', 'undefined undefined undefined'],
    ['FLANNEL_SUBNET=10.5.1.1/24\nFLANNEL_SUBNET=10.5.2.1/24\n', 'undefined 10.5.2.0/24 undefined'],
    ['FLANNEL_SUBNET=10.5.1.1/24\nFLANNEL_IPV6_SUBNET=10.5.1.1/24\n', 'undefined 10.5.1.0/24 undefined'],
    ['FLANNEL_IPMASQ=false\n', 'undefined undefined false'],
    ['FLANNEL_IPMASQ=1\n', 'undefined undefined undefined'],
    ['flannel_subnet=10.5.1.1/24\n', 'undefined undefined undefined'],
  ];
  for (const [text, expected] of cases) t.equal(shown(text), expected, JSON.stringify(text));
  t.end();
});

void t.test('parseSubnetFile() leaves out what is no network, and says so', (t) => {
  const values = ['$(reboot)', '`reboot`', '10.5.1.1/24; reboot', '10.5.1.1', '10.5.1.1/33', 'fc00::/64', ''];
  for (const value of [...values, '10.5.1.1/24 && x', '../../etc', '10.5.1.1/24,10.5.2.1/24', ',']) {
    const { subnets, warnings } = parseSubnetFile(`FLANNEL_SUBNET=${value}\n`, '/run/subnet.env');
    t.equal(subnets, undefined, value);
    t.strictSame(warnings, [
      `/run/subnet.env: FLANNEL_SUBNET is ${JSON.stringify(value)}: expected one IPv4 network`,
    ]);
  }
  for (const text of [
    'FLANNEL_SUBNET="10.5.1.1/24',
    'x FLANNEL_SUBNET=10.5.1.1/24',
    'FLANNEL_SUBNET 10.5.1.1/24',
  ])
    t.equal(parseSubnetFile(text, 'f').subnets, undefined, text);
  t.equal(parseSubnetFile('__proto__=1\nconstructor=2\n', 'f').subnets, undefined);
  t.end();
});
