import t from 'tap';
import { differingFeatures, parseFeatures, stateOf } from '../../../src/kernel/ethtool.js';

const PRINTED = `Features for flannel.1:
rx-checksumming: on
tx-checksumming: off
\ttx-checksum-ipv4: off [fixed]
\ttx-checksum-ip-generic: off
tcp-segmentation-offload: off
\ttx-tcp-segmentation: off [requested on]
generic-receive-offload: off
large-receive-offload: off [fixed]
`;

t.test('parseFeatures() reads what was asked for, without sums and what cannot be changed', (t) => {
  t.strictSame(Object.fromEntries(parseFeatures(PRINTED)), {
    'rx-checksumming': true,
    'tx-checksum-ip-generic': false,
    'tx-tcp-segmentation': true,
    'generic-receive-offload': false,
  });
  t.equal(parseFeatures('netlink error: No such device\n').size, 0);
  t.end();
});

t.test('differingFeatures() leaves out what the other device does not have', (t) => {
  const wanted = new Map([
    ['a', false],
    ['b', true],
    ['c', false],
  ]);
  const current = new Map([
    ['a', true],
    ['b', true],
  ]);
  t.strictSame([...differingFeatures(wanted, current)], [['a', false]]);
  t.end();
});

t.test('stateOf() says what is in force, also of what cannot be changed', (t) => {
  t.equal(stateOf('rx-checksumming', PRINTED), true);
  t.equal(stateOf('tx-tcp-segmentation', PRINTED), false);
  t.equal(stateOf('tx-checksum-ipv4', PRINTED), false);
  t.equal(stateOf('tx-checksum', PRINTED), undefined);
  t.end();
});
