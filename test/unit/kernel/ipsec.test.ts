import t from 'tap';
import { countIpsecPolicies, parsePolicyCount } from '../../../src/kernel/ipsec.js';

for (const [text, expected] of [
  ['\t SPD IN  0 OUT 0 FWD 0\n', 0],
  ['\t SPD IN  2 OUT 1 FWD 7\n', 3],
  ['\t SPD IN  2 OUT 1 FWD 7 (Sock: IN 4 OUT 4 FWD 0)\n', 3],
  ['', undefined],
] as const) {
  t.test(`parsePolicyCount() of ${JSON.stringify(text)}`, (t) => {
    t.equal(parsePolicyCount(text), expected);
    t.end();
  });
}

t.test('countIpsecPolicies() counts those of this kernel', { skip: process.getuid?.() !== 0 }, async (t) => {
  t.type(await countIpsecPolicies(), 'number');
});
