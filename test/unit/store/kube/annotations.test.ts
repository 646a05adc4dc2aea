// Annotations, held against what flanneld wrote to a real API server.

import { readFileSync } from 'node:fs';
import t from 'tap';
import type { LeaseHost } from '../../../../src/lease/lease.js';
import { familiesOf, type FamilyName } from '../../../../src/net/dual.js';
import { parseIpv4 } from '../../../../src/net/ipv4.js';
import { parseIpv6 } from '../../../../src/net/ipv6.js';
import { formatAddresses } from '../../../../src/net/prefix.js';
import {
  annotationPrefix,
  annotationsOf,
  changedHint,
  hostOf,
  isManaged,
  missingOf,
  nodePublicIp,
  operatorProblem,
} from '../../../../src/store/kube/annotations.js';
import { hostOf as leaseHostOf } from '../../../support/leases.js';
import { udpAnnotations } from '../../../support/kube-nodes.js';

const PREFIX = 'flannel.alpha.coreos.com/';

interface Patch {
  readonly path: string;
  readonly body: { readonly metadata?: { readonly annotations?: Record<string, string> } } | null;
}

/** The first patch of annotations in a recording. */
function recorded(name: string): Record<string, string> {
  const url = new URL(`../../../fixtures/kube/flanneld/${name}.patches.jsonl`, import.meta.url);
  const patches = readFileSync(url, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Patch);
  return patches.find(({ body }) => body?.metadata !== undefined)!.body!.metadata!.annotations!;
}

const BOTH: readonly FamilyName[] = ['v4', 'v6'];
const V4 = parseIpv4('172.30.0.11')!;
const V6 = parseIpv6('fd30::11')!;
const vtep = (mac: string): unknown => ({ VNI: 1, VtepMAC: mac });

const HOSTS: Readonly<Record<string, LeaseHost>> = {
  udp: { publicIp: { v4: V4 }, backend: { type: '', data: { v4: undefined } } },
  'host-gw': { publicIp: { v4: V4 }, backend: { type: 'host-gw', data: { v4: undefined } } },
  vxlan: { publicIp: { v4: V4 }, backend: { type: 'vxlan', data: { v4: vtep('12:ea:85:08:6b:a4') } } },
  'dual-udp': { publicIp: { v4: V4, v6: V6 }, backend: { type: '', data: { v4: undefined } } },
  'dual-host-gw': { publicIp: { v4: V4, v6: V6 }, backend: { type: 'host-gw', data: { v4: undefined } } },
  'dual-vxlan': {
    publicIp: { v4: V4, v6: V6 },
    backend: { type: 'vxlan', data: { v4: vtep('ca:9a:73:29:58:0e'), v6: vtep('2a:c1:f4:16:0c:c6') } },
  },
  'v6-vxlan': { publicIp: { v6: V6 }, backend: { type: 'vxlan', data: { v6: vtep('2a:c1:f4:16:0c:c6') } } },
};

for (const [name, host] of Object.entries(HOSTS)) {
  t.test(`annotationsOf() writes what flanneld wrote: ${name}`, (t) => {
    const missing = missingOf(annotationsOf(host, {}), {});
    const written = Object.entries(missing).map(([key, value]) => [PREFIX + key, value] as const);
    t.equal(JSON.stringify(Object.fromEntries(written)), JSON.stringify(recorded(name)));
    t.strictSame(missingOf(annotationsOf(host, {}), annotationsOf(host, {})), {}, 'nothing twice');
    t.end();
  });
}

t.test('hostOf() reads what annotationsOf() writes', (t) => {
  for (const host of [
    leaseHostOf({ publicIp: '172.30.0.11' }),
    leaseHostOf({ publicIp: '172.30.0.11', backendType: 'host-gw' }),
    leaseHostOf({ publicIp: '172.30.0.11', backendType: 'vxlan', backendData: { VNI: 1, VtepMAC: 'x<>&' } }),
    leaseHostOf({ publicIp: 'fd30::11' }),
    HOSTS['dual-host-gw'],
    HOSTS['dual-vxlan'],
    HOSTS['v6-vxlan'],
    { publicIp: { v6: V6 }, backend: { type: 'host-gw', data: { v4: undefined } } },
  ]) {
    const annotations = annotationsOf(host, {});
    t.ok(isManaged(annotations));
    t.same(hostOf(annotations, familiesOf(host.publicIp)), { ok: true, value: host });
  }
  t.end();
});

t.test('hostOf() refuses what no host can mean, in words', (t) => {
  const good = udpAnnotations('172.30.0.11');
  const problem = (changes: Record<string, string | undefined>): unknown => {
    const entries = Object.entries({ ...good, ...changes }).filter((entry) => entry[1] !== undefined);
    const host = hostOf(Object.fromEntries(entries) as Record<string, string>, BOTH);
    return host.ok ? formatAddresses(host.value.publicIp) : host.problem;
  };
  t.equal(problem({}), '172.30.0.11');
  t.equal(problem({ 'backend-data': '' }), '172.30.0.11', 'as the extension backend leaves it');
  t.equal(problem({ 'backend-data': undefined }), '172.30.0.11');
  t.match(problem({ 'public-ip': undefined }), /PublicIP is missing/);
  t.match(problem({ 'public-ip': '172.30.0' }), /PublicIP is not an IPv4 address: "172.30.0"/);
  for (const ip of ['0.0.0.0', '127.0.0.1', '224.0.0.1', '255.255.255.255'])
    t.match(problem({ 'public-ip': ip }), /no address a host can have/, ip);
  t.equal(problem({ 'public-ipv6': 'fe80::11' }), '172.30.0.11', 'as of a host without a global one');
  for (const ip of ['::ffff:172.30.0.11', 'ff02::1', '::'])
    t.match(problem({ 'public-ipv6': ip }), /PublicIPv6 \S+ is no address a host can have/, ip);
  for (const ip of ['172.30.0.11', 'fd30::11%eth0', 'fd30::11/64', ''])
    t.match(problem({ 'public-ipv6': ip }), /PublicIPv6 is not an IPv6 address/, ip);
  t.match(problem({ 'backend-v6-data': '{"VNI":1' }), /^annotation backend-v6-data: /);
  t.match(problem({ 'backend-v6-data': `"${'x'.repeat(2000)}"` }), /BackendV6Data of 2002 bytes \(at most/);
  t.match(problem({ 'backend-type': undefined }), /BackendType is not a string: undefined/);
  t.match(problem({ 'backend-type': 'x'.repeat(65) }), /BackendType of 65 bytes/);
  t.match(problem({ 'backend-data': '{"VNI":1' }), /^annotation backend-data: /);
  t.match(problem({ 'backend-data': '['.repeat(1000) }), /^annotation backend-data: /);
  t.match(problem({ 'backend-data': `"${'x'.repeat(2000)}"` }), /BackendData of 2002 bytes \(at most 1024\)/);
  t.match(problem({ 'backend-data': `"${'x'.repeat(17_000)}"` }), /backend-data of 17002 bytes/);
  t.match(problem({ 'backend-data': '{"__proto__":{"VNI":1}}' }), /"__proto__" is not accepted/);
  t.end();
});

t.test('hostOf() reads what is of the families of the network, and looks at nothing else', (t) => {
  const rows: [
    families: readonly FamilyName[],
    changes: Record<string, string>,
    expected: string | RegExp,
  ][] = [
    [['v4'], {}, '172.30.0.11'],
    [['v6'], {}, 'fd30::11'],
    [BOTH, {}, '172.30.0.11 and fd30::11'],
    [BOTH, { 'public-ipv6': 'FD30:0::0:11' }, '172.30.0.11 and fd30::11'],
    [BOTH, { 'public-ip': '0.0.0.0' }, 'fd30::11'],
    [['v4'], { 'public-ipv6': 'x', 'backend-v6-data': '{' }, '172.30.0.11'],
    [['v6'], { 'public-ip': 'x', 'backend-data': '{' }, 'fd30::11'],
    [['v4'], { 'public-ip': 'fd30::11' }, /PublicIP is not an IPv4 address: "fd30::11"/],
    [['v6'], { 'public-ipv6': '172.30.0.11' }, /PublicIPv6 is not an IPv6 address: "172.30.0.11"/],
    [BOTH, { 'public-ipv6': 'x' }, /PublicIPv6 is not an IPv6 address: "x"/],
  ];
  for (const [families, changes, expected] of rows) {
    const host = hostOf({ ...annotationsOf(HOSTS['dual-vxlan'], {}), ...changes }, families);
    const shown = host.ok ? formatAddresses(host.value.publicIp) : host.problem;
    t.match(shown, expected, `${families.join(' ')} ${JSON.stringify(changes)}`);
    if (host.ok) t.same(familiesOf(host.value.backend.data), families);
  }
  const v4 = annotationsOf(HOSTS['vxlan'], {});
  t.same(hostOf(v4, BOTH), { ok: true, value: HOSTS['vxlan'] }, 'one family may be missing');
  t.match(hostOf(v4, ['v6']), { ok: false, problem: 'annotations: PublicIPv6 is missing' });
  t.end();
});

t.test('isManaged() takes "true" and nothing else', (t) => {
  for (const text of ['TRUE', 'True', '1', '', 'true '])
    t.notOk(isManaged({ 'kube-subnet-manager': text }), text);
  t.notOk(isManaged({}));
  t.end();
});

t.test('the addresses that operators write are used when a host can have them', (t) => {
  const host = HOSTS['udp'];
  const publicIp = (present: Record<string, string>): string | undefined =>
    annotationsOf(host, present)['public-ip'];
  t.equal(publicIp({ 'public-ip-overwrite': '198.51.100.7' }), '198.51.100.7');
  t.equal(publicIp({ 'public-ip-overwrite': 'nonsense' }), '172.30.0.11');
  t.match(
    operatorProblem({ 'public-ip-overwrite': 'nonsense' }, ['v4']),
    /public-ip-overwrite is "nonsense": expected an IPv4/,
  );
  t.match(operatorProblem({ 'node-public-ip': '127.0.0.1' }, ['v4']), /node-public-ip is "127.0.0.1"/);
  t.equal(operatorProblem({ 'node-public-ip': '198.51.100.7' }, ['v4']), undefined);
  t.same(nodePublicIp({ 'node-public-ip': '198.51.100.7' }, ['v4']), { v4: parseIpv4('198.51.100.7') });
  t.equal(nodePublicIp({ 'node-public-ip': '127.0.0.1' }, ['v4']), undefined);
  const wrong = { 'node-public-ipv6': '198.51.100.7', 'public-ipv6-overwrite': 'fe80::7%eth0' };
  t.match(operatorProblem(wrong, BOTH), /public-ipv6-overwrite is "fe80::7%eth0": expected an IPv6 address/);
  t.match(
    operatorProblem({ 'node-public-ipv6': '198.51.100.7' }, BOTH),
    /node-public-ipv6 is .* an IPv6 add/,
  );
  t.equal(operatorProblem(wrong, ['v4']), undefined, 'of no family of the network');
  const both = { 'node-public-ip': '198.51.100.7', 'node-public-ipv6': 'FD30::7' };
  t.equal(formatAddresses(nodePublicIp(both, BOTH)!), '198.51.100.7 and fd30::7');
  t.equal(formatAddresses(nodePublicIp(both, ['v6'])!), 'fd30::7');
  const publicIpv6 = (text: string): string | undefined =>
    annotationsOf(HOSTS['dual-vxlan'], { 'public-ipv6-overwrite': text })['public-ipv6'];
  t.equal(publicIpv6('2001:DB8::7'), '2001:db8::7');
  t.equal(publicIpv6('fe80::7'), 'fd30::11');
  const v4 = annotationsOf(HOSTS['vxlan'], { 'public-ipv6-overwrite': '2001:db8::7' });
  t.equal(v4['public-ipv6'], undefined, 'this host has no IPv6');
  t.end();
});

t.test('changedHint() names the annotation of the family, if the network has it', (t) => {
  const present = { 'node-public-ip': '198.51.100.7', 'node-public-ipv6': 'fd30::7' };
  const v4 = { v4: parseIpv4('198.51.100.7')! };
  t.equal(changedHint(v4, present, ['v4']), undefined);
  const change = 'is fd30::7, at the start it was none: restart to apply it';
  t.equal(changedHint(v4, present, BOTH), `annotation node-public-ipv6 ${change}`);
  t.equal(
    changedHint(nodePublicIp(present, BOTH), { ...present, 'node-public-ipv6': 'FD30::0007' }, BOTH),
    undefined,
  );
  t.match(
    changedHint(nodePublicIp(present, BOTH), {}, BOTH),
    /^annotation node-public-ip is none, at the start/,
  );
  t.end();
});

t.test('annotationPrefix() follows flannel’s rule, and is anchored', (t) => {
  for (const [given, prefix] of [
    ['flannel.alpha.coreos.com', 'flannel.alpha.coreos.com/'],
    ['org.com/', 'org.com/'],
    ['org.com/9', 'org.com/9-'],
    ['org.com/a-', 'org.com/a-'],
    ['org.com/a_b-c', 'org.com/a_b-c-'],
  ])
    t.equal(annotationPrefix(given), prefix);
  for (const given of [
    '',
    'org',
    'org.COM',
    'FOO.org.com/',
    'org.com/a/b',
    'org.com//',
    '.com',
    'a..b',
    'org.com/A',
    'org.com/-a',
    `${'a'.repeat(64)}.com`,
    `${'a.'.repeat(127)}com`,
    'org.com\n',
  ])
    t.throws(
      () => annotationPrefix(given),
      { code: 'E_USAGE', message: /^--kube-annotation-prefix is .*: expected a domain name with a dot/ },
      JSON.stringify(given),
    );
  t.end();
});
