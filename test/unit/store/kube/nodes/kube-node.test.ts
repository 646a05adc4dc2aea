import t from 'tap';
import {
  type KubeNode,
  MAX_ANNOTATION_LENGTH,
  NO_AGE,
  readNode,
  sameMetadata,
  sameNode,
} from '../../../../../src/store/kube/nodes/kube-node.js';

const PREFIX = 'flannel.alpha.coreos.com/';
const NODE = {
  metadata: {
    name: 'w7.example.com',
    uid: 'd977c8b7',
    resourceVersion: '358',
    creationTimestamp: '2026-11-25T14:48:34Z',
    annotations: {
      'flannel.alpha.coreos.com/public-ip': '172.20.0.7',
      'flannel.alpha.coreos.com/backend-type': 'vxlan',
      'flannel.alpha.coreos.company/public-ip': '1.2.3.4',
      'node.alpha.kubernetes.io/ttl': '0',
    },
  },
  spec: { podCIDR: '10.0.7.0/24', podCIDRs: ['10.0.7.0/24', 'fd00::/64'] },
  status: {
    conditions: [
      { type: 'Ready', status: 'True' },
      { type: 'NetworkUnavailable', status: 'False', reason: 'FlannelIsUp', lastHeartbeatTime: 'now' },
    ],
  },
};
const READ: KubeNode = {
  name: 'w7.example.com',
  uid: 'd977c8b7',
  resourceVersion: '358',
  createdMs: Date.UTC(2026, 10, 25, 14, 48, 34),
  podCidrs: ['10.0.7.0/24', 'fd00::/64'],
  annotations: { 'public-ip': '172.20.0.7', 'backend-type': 'vxlan' },
  networkUnavailable: { status: 'False', reason: 'FlannelIsUp', message: '', lastTransitionTime: '' },
};
const EMPTY: KubeNode = {
  name: '',
  uid: '',
  resourceVersion: '',
  createdMs: NO_AGE,
  podCidrs: [],
  annotations: {},
  networkUnavailable: undefined,
};

t.test('readNode() keeps the little that counts', (t) => {
  t.strictSame(readNode(NODE, { prefix: PREFIX }), READ);
  t.strictSame(readNode({ metadata: NODE.metadata }, { prefix: PREFIX }), {
    ...READ,
    podCidrs: [],
    networkUnavailable: undefined,
  });
  t.strictSame(readNode(NODE, { prefix: 'flannel.alpha.coreos.com/back' }).annotations, {
    'end-type': 'vxlan',
  });
  t.strictSame(readNode({ spec: { podCIDR: '10.0.7.0/24' } }, { prefix: PREFIX }).podCidrs, ['10.0.7.0/24']);
  t.end();
});

t.test('readNode() keeps the status of one node, or of all', (t) => {
  const conditionOf = (statusOf: string | undefined): unknown =>
    readNode(NODE, { prefix: PREFIX, statusOf }).networkUnavailable;
  t.strictSame(conditionOf(undefined), READ.networkUnavailable);
  t.strictSame(conditionOf(READ.name), READ.networkUnavailable);
  t.equal(conditionOf('another'), undefined);
  t.end();
});

t.test('readNode() never throws, and leaves out what is malformed', (t) => {
  const metadata = (more: object): object => ({ metadata: more });
  const cases: Record<string, [input: object, expected: Partial<KubeNode>]> = {
    nothing: [{}, {}],
    'other types': [{ metadata: [], spec: 'a', status: null }, {}],
    'other types below': [
      {
        metadata: { name: 1, uid: {}, resourceVersion: 7, creationTimestamp: 5, annotations: ['a'] },
        spec: { podCIDRs: { 0: 'a' }, podCIDR: 5 },
        status: { conditions: { type: 'NetworkUnavailable' } },
      },
      {},
    ],
    'a list of anything': [
      { status: { conditions: [null, 1, [], {}, 'a'] }, spec: { podCIDRs: [1, null, 'a'] } },
      { podCidrs: ['a'] },
    ],
    'an upper case name': [metadata({ name: 'A' }), {}],
    'a path for a name': [metadata({ name: 'a/../b' }), {}],
    'a long name': [metadata({ name: 'a'.repeat(254) }), {}],
    'the longest name': [metadata({ name: 'a'.repeat(253) }), { name: 'a'.repeat(253) }],
    'a long version': [metadata({ resourceVersion: '1'.repeat(65) }), {}],
    'a long uid': [metadata({ uid: 'u'.repeat(1000) }), { uid: 'u'.repeat(256) }],
    'no time': [metadata({ creationTimestamp: 'yesterday' }), {}],
    'many podCIDRs': [{ spec: { podCIDRs: Array(99).fill('a') } }, { podCidrs: Array<string>(16).fill('a') }],
    'an empty list beside a podCIDR': [{ spec: { podCIDRs: [], podCIDR: 'a' } }, { podCidrs: ['a'] }],
    'no podCIDR': [{ spec: { podCIDR: '' } }, {}],
    'a long value': [
      metadata({ annotations: { [`${PREFIX}a`]: 'x'.repeat(MAX_ANNOTATION_LENGTH + 1) } }),
      { annotations: { a: 'x'.repeat(MAX_ANNOTATION_LENGTH) } },
    ],
    'values that are no texts': [metadata({ annotations: { [`${PREFIX}a`]: 1, [`${PREFIX}b`]: null } }), {}],
    'a long key': [metadata({ annotations: { [PREFIX + 'k'.repeat(257)]: '' } }), {}],
    'a half character': [
      { status: { conditions: [{ type: 'NetworkUnavailable', reason: `${'x'.repeat(255)}\u{1f600}` }] } },
      {
        networkUnavailable: {
          status: '',
          reason: `${'x'.repeat(255)}\ufffd`,
          message: '',
          lastTransitionTime: '',
        },
      },
    ],
  };
  for (const [name, [input, expected]] of Object.entries(cases)) {
    t.strictSame(
      readNode(input as Record<string, unknown>, { prefix: PREFIX }),
      { ...EMPTY, ...expected },
      name,
    );
  }
  t.end();
});

t.test('readNode() keeps at most 64 annotations, and any name of one', (t) => {
  const annotations = JSON.parse(`{"${PREFIX}__proto__":"p","${PREFIX}constructor":"c"}`) as Record<
    string,
    string
  >;
  for (let i = 0; i < 100; i++) annotations[`${PREFIX}k${i}`] = '';
  const read = readNode({ metadata: { annotations } }, { prefix: PREFIX }).annotations;
  t.equal(Object.keys(read).length, 64);
  t.equal(Object.getOwnPropertyDescriptor(read, '__proto__')?.value, 'p');
  t.equal(Object.getPrototypeOf(read), Object.prototype);
  t.equal(read.constructor, 'c');
  t.end();
});

t.test('readNode() keeps what hosts publish, whatever stands before it', (t) => {
  const junk = Array.from({ length: 2000 }, (_, i) => [`${PREFIX}a${i}`, '']);
  const annotations: unknown = Object.fromEntries([...junk, [`${PREFIX}public-ip`, '172.20.0.7']]);
  const read = readNode({ metadata: { annotations } }, { prefix: PREFIX }).annotations;
  t.equal(read['public-ip'], '172.20.0.7');
  t.ok(Object.keys(read).length <= 65);
  t.end();
});

t.test('sameNode() looks at everything but the version, sameMetadata() at the metadata', (t) => {
  const check = (other: Partial<KubeNode>, isSame: boolean, hasSameMetadata: boolean): void => {
    for (const [a, b] of [
      [READ, { ...READ, ...other }],
      [{ ...READ, ...other }, READ],
    ]) {
      t.equal(sameNode(a, b), isSame, JSON.stringify(other));
      t.equal(sameMetadata(a, b), hasSameMetadata, JSON.stringify(other));
    }
  };
  const condition = READ.networkUnavailable!;
  check({ resourceVersion: '359' }, true, true);
  check({ annotations: { 'backend-type': 'vxlan', 'public-ip': '172.20.0.7' } }, true, true);
  check({ uid: 'other' }, false, false);
  check({ name: 'other' }, false, false);
  check({ annotations: { 'public-ip': '172.20.0.7' } }, false, false);
  check({ annotations: { 'public-ip': '172.20.0.7', 'backend-type': 'udp' } }, false, false);
  check({ annotations: { 'public-ip': '172.20.0.7', 'backend-data': 'vxlan' } }, false, false);
  check({ createdMs: 1 }, false, true);
  check({ podCidrs: ['10.0.7.0/24'] }, false, true);
  check({ podCidrs: ['fd00::/64', '10.0.7.0/24'] }, false, true);
  check({ networkUnavailable: undefined }, false, true);
  for (const key of Object.keys(condition)) {
    check({ networkUnavailable: { ...condition, [key]: 'other' } }, false, true);
  }
  t.end();
});
