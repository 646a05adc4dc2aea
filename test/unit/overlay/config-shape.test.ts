import t from 'tap';
import { parseNetworkConfig } from '../../../src/config/network-config.js';
import { parsePrefix } from '../../../src/net/prefix.js';
import { shapeChanges } from '../../../src/overlay/config-shape.js';

t.test('shapeChanges() names what another overlay is made of', (t) => {
  const base = { Network: '10.5.0.0/16', Backend: { Type: 'vxlan', VNI: 1, Port: 8472 } };
  const own = parsePrefix('10.5.7.0/24')!;
  const LIMITS = 'SubnetLen, SubnetMin or SubnetMax';
  const cases: [name: string, after: Record<string, unknown>, expected: string[]][] = [
    ['the same', {}, []],
    ['in other order', { Backend: { Port: 8472, VNI: 1, Type: 'vxlan' } }, []],
    ['an unknown field', { Comment: 'x' }, []],
    ['limits that hold the own subnet', { SubnetMin: '10.5.7.0', SubnetMax: '10.5.9.0' }, []],
    ['limits that do not', { SubnetMin: '10.5.8.0' }, [LIMITS]],
    ['length', { SubnetLen: 25 }, [LIMITS]],
    ['a wider Network', { Network: '10.0.0.0/12' }, ['Network']],
    ['another Network', { Network: '10.6.0.0/16' }, ['Network', LIMITS]],
    ['type', { Backend: { Type: 'host-gw' } }, ['Backend.Type', 'Backend']],
    ['a backend field', { Backend: { Type: 'vxlan', VNI: 1, Port: 4789 } }, ['Backend']],
    ['rules', { EnableNFTables: true }, ['EnableNFTables']],
  ];
  const before = parseNetworkConfig(JSON.stringify(base), 'before');
  for (const [name, change, expected] of cases) {
    const after = parseNetworkConfig(JSON.stringify({ ...base, ...change }), name);
    t.strictSame(shapeChanges(before, after, { v4: own }), expected, name);
  }
  t.end();
});
