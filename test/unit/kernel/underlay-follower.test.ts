// The external interface is followed until everybody has taken the change.

import pino from 'pino';
import t from 'tap';
import type { Link } from '../../../src/kernel/link.js';
import type { ExternalInterface } from '../../../src/kernel/underlay.js';
import { UnderlayFollower } from '../../../src/kernel/underlay-follower.js';
import { GONE_MS } from '../../../src/kernel/underlay-watch.js';
import { parseIpv4 } from '../../../src/net/ipv4.js';
import { formatAddresses } from '../../../src/net/prefix.js';
import { linkOf } from '../../support/links.js';

const CHOSEN: ExternalInterface = {
  name: 'eth0',
  index: 2,
  mtuBytes: 1500,
  address: { v4: parseIpv4('172.20.0.1')! },
  publicIp: { v4: parseIpv4('198.51.100.1')! },
};
const OTHER: ExternalInterface = {
  name: 'eth1',
  index: 3,
  mtuBytes: 1400,
  address: { v4: parseIpv4('172.20.0.9')! },
  publicIp: { v4: parseIpv4('172.20.0.9')! },
};

const link = ({ name, index, mtuBytes, address }: ExternalInterface): Link =>
  linkOf([`${formatAddresses(address)}/24`], { index, name, mtuBytes });

function setUp() {
  const host = {
    nowMs: 0,
    links: [link(CHOSEN)],
    told: [] as ExternalInterface[],
    refusal: undefined as string | undefined,
    choice: undefined as ExternalInterface | undefined,
  };
  const follower = new UnderlayFollower({
    iface: CHOSEN,
    choose: () =>
      host.choice === undefined
        ? Promise.reject(new Error('No default route'))
        : Promise.resolve(host.choice),
    log: pino({ level: 'silent' }),
    signal: new AbortController().signal,
    list: () => Promise.resolve(host.links),
    now: () => host.nowMs,
  });
  const look = () =>
    follower.look((iface) => {
      host.told.push(iface);
      return host.refusal === undefined ? Promise.resolve() : Promise.reject(new Error(host.refusal));
    });
  return { host, follower, look };
}

t.test('UnderlayFollower.look() hands a change on until it is taken', async (t) => {
  const { host, follower, look } = setUp();
  t.match(await look(), { isDone: true });
  t.strictSame(host.told, []);
  const changed = { ...CHOSEN, mtuBytes: 9000 };
  host.links = [link(changed)];
  host.refusal = 'device busy';
  t.match(await look(), { isDone: false });
  t.match(follower.fault, { code: 'interface-down', text: 'external interface eth0: device busy' });
  t.same(follower.iface, changed, 'what uses the interface knows of it all the same');
  host.refusal = undefined;
  t.match(await look(), { isDone: true });
  t.equal(follower.fault, undefined);
  t.strictSame(host.told, [changed, changed]);
  await look();
  t.equal(host.told.length, 2);
});

t.test('UnderlayFollower.look() chooses anew when the address is gone for good', async (t) => {
  const { host, follower, look } = setUp();
  host.links = [];
  t.strictSame(await look(), { isDone: true, againInMs: GONE_MS });
  t.match(follower.fault, { text: 'external interface eth0 is gone' });
  t.strictSame(host.told, []);
  host.nowMs = GONE_MS;
  t.match(await look(), { isDone: false }, 'there is no other');
  t.match(follower.fault, { text: 'external interface eth0 is gone: No default route' });
  host.choice = OTHER;
  t.match(await look(), { isDone: true });
  t.equal(follower.fault, undefined);
  t.equal(follower.iface, OTHER);
  t.strictSame(host.told, [OTHER]);
});

t.test('UnderlayFollower.look() says what keeps it from looking', async (t) => {
  const { host, follower, look } = setUp();
  Object.defineProperty(host, 'links', {
    get: () => {
      throw new Error('ip: not found');
    },
  });
  t.match(await look(), { isDone: false });
  t.match(follower.fault, { text: 'external interface eth0: ip: not found' });
});
