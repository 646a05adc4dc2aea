// What was chosen at the start stays until it is really gone.

import t from 'tap';
import type { ExternalInterface } from '../../../src/kernel/underlay.js';
import type { Link } from '../../../src/kernel/link.js';
import { GONE_MS, UnderlayWatch } from '../../../src/kernel/underlay-watch.js';
import { parseIpv4 } from '../../../src/net/ipv4.js';
import { addressesOf } from '../../support/leases.js';
import { addressOf, linkOf } from '../../support/links.js';

const ADDRESS = parseIpv4('172.20.0.1')!;
const CHOSEN: ExternalInterface = {
  name: 'eth0',
  index: 2,
  mtuBytes: 1500,
  address: { v4: ADDRESS },
  publicIp: { v4: parseIpv4('198.51.100.1')! },
};

const link = (settings: Partial<Link> = {}, addresses: readonly string[] = ['172.20.0.1']): Link =>
  linkOf(
    addresses.map((address) => `${address}/24`),
    settings,
  );

t.test('UnderlayWatch.observe() stays with the link and address that were chosen', (t) => {
  const rows: [string, Link[], object][] = [
    ['nothing new', [link()], { kind: 'same' }],
    ['a virtual address beside it', [link({}, ['172.20.0.100', '172.20.0.1'])], { kind: 'same' }],
    ['a better link beside it', [link({ index: 1, name: 'ens1' }, ['192.0.2.9']), link()], { kind: 'same' }],
    ['a new MTU', [link({ mtuBytes: 9000 })], { kind: 'changed', iface: { ...CHOSEN, mtuBytes: 9000 } }],
    ['a new name', [link({ name: 'lan0' })], { kind: 'changed', iface: { ...CHOSEN, name: 'lan0' } }],
    ['the link made anew', [link({ index: 9 })], { kind: 'changed', iface: { ...CHOSEN, index: 9 } }],
    ['down', [link({ isUp: false })], { kind: 'faulty', fault: 'external interface eth0 is down' }],
  ];
  for (const [what, links, state] of rows) {
    t.strictSame(new UnderlayWatch().observe(CHOSEN, links, 0), state, what);
  }
  t.end();
});

t.test('UnderlayWatch.observe() calls an address gone after it was away for a while', (t) => {
  const watch = new UnderlayWatch();
  const bare = [link({}, ['172.20.0.100'])];
  const lost = 'external interface eth0 has lost its address 172.20.0.1';
  t.strictSame(watch.observe(CHOSEN, bare, 1000), { kind: 'faulty', fault: lost, goneInMs: GONE_MS });
  t.equal(watch.observe(CHOSEN, bare, 1000 + GONE_MS - 1).kind, 'faulty');
  t.equal(watch.observe(CHOSEN, [link()], 1000 + GONE_MS).kind, 'same', 'it came back');
  t.equal(watch.observe(CHOSEN, [], 20_000).kind, 'faulty', 'a new absence');
  t.strictSame(watch.observe(CHOSEN, [], 20_000 + GONE_MS), {
    kind: 'gone',
    fault: 'external interface eth0 is gone',
  });
  t.end();
});

t.test(
  'UnderlayWatch.observe() of both families: each address counts, those of a link that is down do not',
  (t) => {
    const dual = { ...CHOSEN, address: addressesOf('172.20.0.1&fd00:99::1') };
    const own = ['172.20.0.1/24', 'fd00:99::1/64'];
    const rows: [string, Link, object][] = [
      ['both', linkOf(own), { kind: 'same' }],
      ['others beside them', linkOf(['fd00:99::7/64', ...own]), { kind: 'same' }],
      [
        'deprecated',
        linkOf([], { addresses: [addressOf(own[0]), addressOf(own[1], { isDeprecated: true })] }),
        { kind: 'same' },
      ],
      [
        'of another host, too',
        linkOf([], { addresses: [addressOf(own[0]), addressOf(own[1], { isDuplicate: true })] }),
        {
          kind: 'faulty',
          fault:
            'external interface eth0 has lost its address fd00:99::1, which is another host’s as well ' +
            '(duplicate address detection failed)',
          goneInMs: GONE_MS,
        },
      ],
      [
        'IPv6 lost',
        linkOf(own.slice(0, 1)),
        {
          kind: 'faulty',
          fault: 'external interface eth0 has lost its address fd00:99::1',
          goneInMs: GONE_MS,
        },
      ],
      [
        'IPv4 lost',
        linkOf(own.slice(1)),
        {
          kind: 'faulty',
          fault: 'external interface eth0 has lost its address 172.20.0.1',
          goneInMs: GONE_MS,
        },
      ],
      [
        'down, and so without IPv6',
        linkOf(own.slice(0, 1), { isUp: false }),
        { kind: 'faulty', fault: 'external interface eth0 is down' },
      ],
    ];
    for (const [what, link, expected] of rows)
      t.strictSame(new UnderlayWatch().observe(dual, [link], 0), expected, what);
    t.end();
  },
);
