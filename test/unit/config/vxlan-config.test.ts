import t from 'tap';
import {
  deriveVtepMac,
  parseHostGwConfig,
  parseVtepData,
  parseVxlanConfig,
} from '../../../src/config/vxlan-config.js';
import { parseIpv4 } from '../../../src/net/ipv4.js';

const DEFAULTS = {
  vni: 1,
  port: 8472,
  hasGbp: false,
  hasLearning: false,
  hasDirectRouting: false,
  outerMtuBytes: undefined,
  unknownKeys: [] as string[],
};

t.test("parseVxlanConfig() has flanneld's defaults and reads keys in any case", (t) => {
  const check = (
    backend: Record<string, unknown>,
    expected: Partial<typeof DEFAULTS> | { outerMtuBytes: number },
  ) => {
    t.strictSame(parseVxlanConfig(backend), { ...DEFAULTS, ...expected }, JSON.stringify(backend));
  };
  check({ Type: 'vxlan' }, {});
  check({}, {});
  check({ VNI: 16777215, Port: 4789, GBP: true }, { vni: 16777215, port: 4789, hasGbp: true });
  check({ vni: 0, port: 0, mtu: 0 }, { vni: 0 });
  check({ vni: 5, VNI: 6 }, { vni: 6 });
  check({ VNI: null, Port: null, GBP: null, MTU: null }, {});
  check({ directrouting: true, LEARNING: true }, { hasDirectRouting: true, hasLearning: true });
  check({ MTU: 1400 }, { outerMtuBytes: 1400 });
  check({ MTU: 626 }, { outerMtuBytes: 626 });
  check({ Direct: true, Vni: 3, MacPrefix: '0E-2A' }, { vni: 3, unknownKeys: ['Direct', 'MacPrefix'] });
  check(JSON.parse('{"__proto__": {"VNI": 9}}') as Record<string, unknown>, { unknownKeys: ['__proto__'] });
  t.end();
});

t.test('parseVxlanConfig() names key, value and what was expected', (t) => {
  const refuse = (backend: Record<string, unknown>, message: string) => {
    t.throws(() => parseVxlanConfig(backend), {
      code: 'E_CONFIG',
      message: `Network config, Backend.${message}`,
    });
  };
  refuse({ VNI: 16777216 }, 'VNI 16777216: expected an integer from 0 to 16777215');
  refuse({ vni: -1 }, 'VNI -1: expected an integer from 0 to 16777215');
  refuse({ VNI: '1' }, 'VNI "1": expected an integer from 0 to 16777215');
  refuse({ VNI: 1.5 }, 'VNI 1.5: expected an integer from 0 to 16777215');
  refuse({ Port: 65536 }, 'Port 65536: expected an integer from 0 to 65535');
  refuse({ Port: [8472] }, 'Port [8472]: expected an integer from 0 to 65535');
  refuse({ GBP: 'yes' }, 'GBP "yes": expected true or false');
  refuse({ Learning: 1 }, 'Learning 1: expected true or false');
  refuse({ DirectRouting: {} }, 'DirectRouting {}: expected true or false');
  refuse({ MTU: 625 }, 'MTU 625: expected at least 626 (576 + 50 of VXLAN)');
  refuse({ MTU: 70000 }, 'MTU 70000: expected an integer from 0 to 65535');
  t.end();
});

t.test('parseHostGwConfig() lists what it does not know', (t) => {
  t.strictSame(parseHostGwConfig({ type: 'host-gw', Port: 1 }), { unknownKeys: ['Port'] });
  t.end();
});

t.test('deriveVtepMac() is local, unicast and different for each address and VNI', (t) => {
  t.equal(deriveVtepMac(parseIpv4('192.0.2.1')!, 1), '0a:01:c0:00:02:01');
  t.equal(deriveVtepMac(parseIpv4('255.255.255.255')!, 0x010203), '0a:00:ff:ff:ff:ff');
  t.equal(parseInt(deriveVtepMac(0, 0).slice(0, 2), 16) & 3, 2);
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
