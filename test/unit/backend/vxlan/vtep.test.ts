import t from 'tap';
import { deriveVtepMac, parseVtepData } from '../../../../src/backend/vxlan/vtep.js';
import { ipv4, parseIpv4 } from '../../../../src/net/ipv4.js';
import { parseIpv6 } from '../../../../src/net/ipv6.js';

t.test('deriveVtepMac() is local, unicast and different for each address and VNI', (t) => {
  t.equal(deriveVtepMac(parseIpv4('192.0.2.1')!, 1), '0a:01:c0:00:02:01');
  t.equal(deriveVtepMac(parseIpv4('255.255.255.255')!, 0x010203), '0a:00:ff:ff:ff:ff');
  t.equal(parseInt(deriveVtepMac(ipv4(0), 0).slice(0, 2), 16) & 3, 2);
  t.end();
});

t.test('deriveVtepMac() of IPv6 is local, unicast, none of IPv4, and differs for neighbours', (t) => {
  const of = (text: string) => deriveVtepMac(parseIpv6(text)!, 1);
  t.match(of('fd00:99::1'), /^0e:01:/);
  const addresses = Array.from({ length: 1000 }, (_, i) => `fd00:99::${(i + 1).toString(16)}`);
  t.equal(new Set(addresses.map(of)).size, 1000);
  t.not(of('fd00:99:0:1::1'), of('fd00:99:0:2::1'), 'the upper half counts');
  t.end();
});

t.test('parseVtepData() reads the lease of twill and of flanneld, old and new', (t) => {
  const check = (data: unknown, expected: unknown) => {
    t.strictSame(parseVtepData(data, parseIpv4('192.0.2.1')!, 7), expected, JSON.stringify(data));
  };
  check({ VNI: 1, VtepMAC: 'da:cf:2f:a4:f8:4a' }, { vni: 1, mac: 'da:cf:2f:a4:f8:4a' });
  check({ VtepMAC: 'DA:CF:2F:A4:F8:4A' }, { vni: undefined, mac: 'da:cf:2f:a4:f8:4a' });
  check({ vtepmac: 'da:cf:2f:a4:f8:4a', vni: null }, { vni: undefined, mac: 'da:cf:2f:a4:f8:4a' });
  check(undefined, { vni: 7, mac: '0a:07:c0:00:02:01' });
  check(null, { vni: 7, mac: '0a:07:c0:00:02:01' });
  check({ VNI: 1 }, 'its VtepMAC (missing) is no MAC address');
  check({ VtepMAC: 'da:cf:2f:a4:f8' }, 'its VtepMAC "da:cf:2f:a4:f8" is no MAC address');
  check(
    { VtepMAC: 'da:cf:2f:a4:f8:4a\nlink del eth0' },
    'its VtepMAC "da:cf:2f:a4:f8:4a\\nlink del eth0" is no MAC address',
  );
  check({ VtepMAC: 7 }, 'its VtepMAC 7 is no MAC address');
  check({ VtepMAC: '01:00:5e:00:00:01' }, 'its VtepMAC "01:00:5e:00:00:01" is no unicast address');
  check({ VtepMAC: '00:00:00:00:00:00' }, 'its VtepMAC "00:00:00:00:00:00" is no unicast address');
  check({ VNI: 'x', VtepMAC: 'da:cf:2f:a4:f8:4a' }, 'its VNI "x" is no integer');
  check('text', 'its BackendData is no object');
  t.end();
});
