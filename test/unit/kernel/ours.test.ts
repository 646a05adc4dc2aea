// Names and marks of devices, of both families.

import t from 'tap';
import { formatMark, isDeviceOf, isOurDevice, parseMark, vxlanDeviceName } from '../../../src/kernel/ours.js';
import { formatPrefix, parseAnyPrefix } from '../../../src/net/prefix.js';
import { linkOf } from '../../support/links.js';

const prefix = (text: string) => parseAnyPrefix(text)!;

t.test('formatMark() and parseMark() are of one network or of two', (t) => {
  const rows: [string, readonly string[], readonly string[]][] = [
    ['twill', [], []],
    ['twill 10.5.0.0/16', ['10.5.0.0/16'], []],
    ['twill 10.5.0.0/16 10.5.1.0/32', ['10.5.0.0/16'], ['10.5.1.0/32']],
    ['twill fd00:5::/48', ['fd00:5::/48'], []],
    ['twill fd00:5::/32', ['fd00:5::/32'], []],
    [
      'twill 10.5.0.0/16 fd00:5::/48 10.5.1.0/32 fd00:5:0:1::/128',
      ['10.5.0.0/16', 'fd00:5::/48'],
      ['10.5.1.0/32', 'fd00:5:0:1::/128'],
    ],
  ];
  for (const [alias, networks, addresses] of rows) {
    t.equal(formatMark(...[...networks, ...addresses].map(prefix)), alias);
    const mark = parseMark(alias)!;
    t.strictSame(
      [mark.networks, mark.addresses].map((all) => all.map(formatPrefix)),
      [networks, addresses],
      alias,
    );
  }
  t.equal(parseMark('twillish 10.5.0.0/16'), undefined);
  t.end();
});

t.test('isDeviceOf() tells the devices of a network by their marks', (t) => {
  const vxlan = (alias: string) =>
    linkOf(['fd00:5:0:1::/128'], { name: 'flannel-v6.1', kind: 'vxlan', alias });
  const [v4, v6] = [prefix('10.5.0.0/16'), prefix('fd00:5::/48')];
  t.ok(isDeviceOf(vxlan('twill fd00:5::/48'), [v4, v6]));
  t.notOk(isDeviceOf(vxlan('twill fd00:5::/48'), [v4]));
  t.notOk(isDeviceOf(vxlan('twill fd00:6::/48'), [v6]), 'of another network, whatever address it has');
  t.notOk(isDeviceOf(vxlan(''), [v6]), "flanneld's");
  t.ok(
    isDeviceOf(
      linkOf([], {
        kind: 'tun',
        data: { persist: true },
        name: 'flannel0',
        alias: 'twill 10.5.0.0/16 fd00:5::/48',
      }),
      [v6],
    ),
  );
  t.strictSame([vxlanDeviceName(1, 'v4'), vxlanDeviceName(1, 'v6')], ['flannel.1', 'flannel-v6.1']);
  t.end();
});

t.test('isOurDevice() goes by the mark, and never by the name alone', (t) => {
  const tun = { name: 'flannel0', kind: 'tun', data: { persist: true } };
  const cases: [device: object, alias: string, isOurs: boolean][] = [
    [tun, 'twill 10.5.0.0/16 10.5.1.0/32', true],
    [tun, 'twill', true],
    [tun, '', true],
    [tun, 'another', false],
    [{ ...tun, name: 'tun0' }, 'twill 10.5.0.0/16', false],
    [{ ...tun, data: {} }, '', false],
    [{ name: 'flannel.1', kind: 'vxlan' }, 'twill 10.5.0.0/16', true],
    [{ name: 'flannel.1', kind: 'vxlan' }, '', false],
    [{ name: 'flannel0', kind: 'bridge' }, 'twill 10.5.0.0/16', false],
  ];
  for (const [device, alias, isOurs] of cases)
    t.equal(isOurDevice(linkOf([], { ...device, alias })), isOurs, JSON.stringify({ ...device, alias }));
  t.end();
});
