import t from 'tap';
import { parseVxlanConfig } from '../../../../src/backend/vxlan/config.js';

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
      message: `Backend.${message}`,
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
