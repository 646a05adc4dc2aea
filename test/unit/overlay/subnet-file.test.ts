import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { formatPrefix, parsePrefix } from '../../../src/net/prefix.js';
import {
  formatSubnetFile,
  parseSubnetFile,
  readSubnetFile,
  writeSubnetFile,
} from '../../../src/overlay/subnet-file.js';
import { folderOf } from '../../support/folder.js';

const CONTENT = {
  networks: { v4: parsePrefix('10.5.0.0/16')! },
  subnets: { v4: parsePrefix('10.5.1.0/24')! },
  mtuBytes: 1472,
  ipMasq: true,
};

t.test('the text is flannel’s, byte for byte', (t) => {
  const golden = readFileSync(new URL('../../fixtures/golden/udp/subnet.env', import.meta.url), 'utf8');
  t.equal(formatSubnetFile(CONTENT), golden);
  t.end();
});

t.test('writeSubnetFile() replaces in one step, with mode 0644 whatever the umask', async (t) => {
  const path = join(folderOf(t), 'made/on/the/way/subnet.env');
  const before = process.umask(0o077);
  t.teardown(() => process.umask(before));
  await writeSubnetFile(path, CONTENT);
  process.umask(before);
  t.equal(statSync(path).mode & 0o777, 0o644);
  const texts = new Set<string>();
  let isDone = false;
  const reader = (async () => {
    while (!isDone) {
      texts.add(readFileSync(path, 'utf8'));
      await new Promise(setImmediate);
    }
  })();
  for (let i = 0; i < 50; i++) await writeSubnetFile(path, { ...CONTENT, mtuBytes: 1400 + i });
  isDone = true;
  await reader;
  for (const text of texts)
    t.match(text, /^FLANNEL_NETWORK=.*\nFLANNEL_SUBNET=.*\nFLANNEL_MTU=\d+\nFLANNEL_IPMASQ=true\n$/);
  t.same(readdirSync(join(path, '..')), ['subnet.env'], 'no temporary file stays');
});

t.test('writeSubnetFile() removes what processes that were killed have left, and nothing else', async (t) => {
  const others = ['.subnet.env.bak', '.subnet.env.1x', '.other.env.7', 'subnet.env.7'];
  const left = ['.subnet.env.7', '.subnet.env.4711', `.subnet.env.${process.pid}`];
  const dir = folderOf(t, Object.fromEntries([...others, ...left].map((name) => [name, 'FLANNEL_NET'])));
  await writeSubnetFile(join(dir, 'subnet.env'), CONTENT);
  t.same(readdirSync(dir).sort(), [...others, 'subnet.env'].sort());
});

t.test('writeSubnetFile() goes through no link and over no directory', async (t) => {
  const dir = folderOf(t, { target: 'precious' });
  symlinkSync(join(dir, 'target'), join(dir, 'subnet.env'));
  await t.rejects(writeSubnetFile(join(dir, 'subnet.env'), CONTENT), {
    code: 'E_FILE',
    message: /link or no regular file/,
  });
  t.equal(readFileSync(join(dir, 'target'), 'utf8'), 'precious');
  mkdirSync(join(dir, 'directory'));
  await t.rejects(writeSubnetFile(join(dir, 'directory'), CONTENT), { code: 'E_FILE' });
  writeFileSync(join(dir, 'file'), '');
  await t.rejects(writeSubnetFile(join(dir, 'file/subnet.env'), CONTENT), { code: 'E_FILE' });
  t.notOk(existsSync(join(dir, '.subnet.env')));
  chmodSync(dir, 0o755);
});

t.test('readSubnetFile() takes what it can use, and names what it cannot', async (t) => {
  const dir = folderOf(t);
  const missing = await readSubnetFile(join(dir, 'none'));
  t.same(missing, { networks: undefined, subnets: undefined, ipMasq: undefined, warnings: [] });
  const read = parseSubnetFile(formatSubnetFile(CONTENT), 'f');
  t.equal(formatPrefix(read.subnets!.v4!), '10.5.1.0/24');
  t.equal(formatPrefix(read.networks!.v4!), '10.5.0.0/16');
  t.equal(read.ipMasq, true);
  t.equal(
    formatPrefix(parseSubnetFile('export FLANNEL_SUBNET="10.5.72.1/24"\n', 'f').subnets!.v4!),
    '10.5.72.0/24',
  );
  const list = parseSubnetFile('FLANNEL_SUBNET=10.5.1.1/24,10.5.2.1/24\n', 'f');
  t.equal(list.subnets, undefined);
  t.match(list.warnings, [/FLANNEL_SUBNET is "10\.5\.1\.1\/24,10\.5\.2\.1\/24": expected one IPv4 network/]);
  t.equal(parseSubnetFile('FLANNEL_SUBNET=$(id)/24\n', 'f').subnets, undefined);
  writeFileSync(join(dir, 'huge'), 'FLANNEL_SUBNET=10.5.1.1/24\n'.repeat(1000));
  t.match((await readSubnetFile(join(dir, 'huge'))).warnings, [/expected at most 4096/]);
});

t.test('a folder that cannot be made is an error, not a wait', async (t) => {
  const content = {
    networks: { v4: parsePrefix('10.5.0.0/16')! },
    subnets: { v4: parsePrefix('10.5.1.0/24')! },
    mtuBytes: 1472,
    ipMasq: false,
  };
  await t.rejects(writeSubnetFile('/proc/none/subnet.env', content), {
    code: 'E_FILE',
    message: /\/proc\/none/,
  });
});
