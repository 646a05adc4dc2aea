import t from 'tap';
import { checkFamilies } from '../../../src/backend/registry.js';
import type { BackendMode } from '../../../src/backend/backend.js';
import { type NetworkConfig, parseNetworkConfig } from '../../../src/config/network-config.js';

t.test('checkFamilies() names the field that the mode cannot follow', async (t) => {
  const configOf = (fields: object): NetworkConfig =>
    parseNetworkConfig(JSON.stringify({ Network: '10.5.0.0/16', ...fields }), 'test');
  const dual = { EnableIPv6: true, IPv6Network: 'fd00:5::/48' };
  const both = [dual, { ...dual, EnableIPv4: false }];
  await checkFamilies(configOf({ ...dual, Backend: { Type: 'no such mode' } }));
  for (const fields of [{}, ...both]) {
    for (const Type of ['udp', 'vxlan', 'host-gw'])
      await checkFamilies(configOf({ ...fields, Backend: { Type } }));
  }
  const mode = (): Promise<BackendMode> =>
    Promise.resolve({ families: ['v4'], open: () => t.fail() as never });
  await checkFamilies(configOf({}), mode);
  for (const fields of both) {
    await t.rejects(checkFamilies(configOf(fields), mode), {
      code: 'E_CONFIG',
      message: 'test: EnableIPv6 is true: expected false, because Backend.Type "udp" carries no IPv6',
    });
  }
});
