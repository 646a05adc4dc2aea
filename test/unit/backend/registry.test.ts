import t from 'tap';
import { checkFamilies } from '../../../src/backend/registry.js';
import { parseNetworkConfig } from '../../../src/config/network-config.js';

t.test('checkFamilies() names the field that the mode cannot follow', async (t) => {
  const check = (fields: object): Promise<void> =>
    checkFamilies(parseNetworkConfig(JSON.stringify({ Network: '10.5.0.0/16', ...fields }), 'test'));
  const dual = { EnableIPv6: true, IPv6Network: 'fd00:5::/48' };
  await check({});
  await check({ ...dual, Backend: { Type: 'no such mode' } });
  for (const fields of [dual, { ...dual, EnableIPv4: false }]) {
    await t.rejects(check(fields), {
      code: 'E_CONFIG',
      message: 'test: EnableIPv6 is true: expected false, because Backend.Type "udp" carries no IPv6',
    });
  }
});
