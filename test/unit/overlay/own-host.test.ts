// The own lease follows the public IP.

import t from 'tap';
import { type LeaseHost, leaseBackend } from '../../../src/lease/lease.js';
import { formatIpv4, type Ipv4, parseIpv4 } from '../../../src/net/ipv4.js';
import { OwnHost } from '../../../src/overlay/own-host.js';

const [FIRST, SECOND, THIRD] = ['192.0.2.1', '192.0.2.2', '192.0.2.3'].map((text) => parseIpv4(text)!);

/** A store that answers when the test says so. */
function setUp(options: { readonly isReadOnly?: boolean } = {}) {
  const store = {
    asked: [] as { readonly publicIp: string; readonly answer: (error?: Error) => Promise<void> }[],
    published: 0,
  };
  const publish = (host: LeaseHost): Promise<void> =>
    new Promise((resolve, reject) => {
      store.asked.push({
        publicIp: formatIpv4(host.publicIp.v4!),
        answer: async (error) => {
          if (error === undefined) resolve();
          else reject(error);
          await new Promise((done) => setImmediate(done));
        },
      });
    });
  const own = new OwnHost({
    host: { publicIp: { v4: FIRST }, backend: leaseBackend('vxlan', { VNI: 1 }) },
    publish: options.isReadOnly === true ? undefined : publish,
    store: 'static',
    onPublished: () => store.published++,
  });
  const textAt = (publicIp: Ipv4 | undefined): string | undefined => {
    own.follow(publicIp && { v4: publicIp });
    return own.lag?.text;
  };
  return { store, textAt };
}

t.test('OwnHost.follow() publishes once, and is content when it stands there', async (t) => {
  const { store, textAt } = setUp();
  t.equal(textAt(FIRST), undefined);
  t.equal(store.asked.length, 0);
  const text = 'public IP is now 192.0.2.2, but the lease says 192.0.2.1: it is being published';
  t.equal(textAt(SECOND), text);
  t.equal(textAt(SECOND), text);
  t.strictSame(
    store.asked.map(({ publicIp }) => publicIp),
    ['192.0.2.2'],
  );
  await store.asked[0].answer();
  t.equal(store.published, 1, 'asks for another look');
  t.equal(textAt(SECOND), undefined);
});

t.test('OwnHost.follow() says why it failed, and tries again', async (t) => {
  const { store, textAt } = setUp();
  textAt(SECOND);
  await store.asked[0].answer(new Error('etcd refuses'));
  t.equal(store.published, 0);
  t.match(textAt(SECOND), /: etcd refuses$/);
  t.equal(store.asked.length, 2);
  await store.asked[1].answer();
  t.equal(textAt(SECOND), undefined);
});

t.test('OwnHost.follow() forgets an address that changed once more meanwhile', async (t) => {
  const { store, textAt } = setUp();
  textAt(SECOND);
  textAt(THIRD);
  await store.asked[0].answer();
  t.equal(store.published, 0);
  t.match(textAt(THIRD), /lease says 192\.0\.2\.1: it is being published/);
  await store.asked[1].answer();
  t.equal(textAt(THIRD), undefined);
  t.equal(store.asked.length, 2);
});

t.test('OwnHost.follow() leaves to an operator what only that one writes', (t) => {
  const { textAt } = setUp({ isReadOnly: true });
  t.match(textAt(SECOND), /only an operator writes the static store/);
  t.equal(textAt(undefined), undefined, 'while the address is not known, the interface says what is wrong');
  t.equal(textAt(FIRST), undefined);
  t.end();
});
