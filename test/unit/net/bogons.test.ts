import t from 'tap';
import { isBogon } from '../../../src/net/bogons.js';
import { parseIpv4 } from '../../../src/net/ipv4.js';
import { parseIpv6 } from '../../../src/net/ipv6.js';

t.test('isBogon()', (t) => {
  for (const text of ['0.1.2.3', '127.0.0.1', '224.0.0.1', '239.1.1.1', '240.0.0.1', '255.255.255.255'])
    t.ok(isBogon(parseIpv4(text)!), text);
  for (const text of ['1.0.0.1', '10.5.1.1', '169.254.1.1', '192.0.2.1', '223.255.255.255'])
    t.notOk(isBogon(parseIpv4(text)!), text);
  for (const text of ['::', '::1', 'ff02::1', 'ffff::', '::ffff:10.5.1.1', 'fe80::1', 'febf::1'])
    t.ok(isBogon(parseIpv6(text)!), text);
  for (const text of ['::2', '2001:db8::1', 'fd00::1', 'fec0::1', 'feff::'])
    t.notOk(isBogon(parseIpv6(text)!), text);
  t.end();
});
