// etcd is there but refuses: quota, passwords, certificates. Each cause has its words in degraded(), is logged without
// secrets, and ends by itself once repaired.

import t from 'tap';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { EtcdServer, freePort, startEtcd } from '../support/etcd-server.js';
import type { Fixture, FixtureOptions } from '../support/store-fixture.js';
import {
  converged,
  makeStore,
  PASSWORD,
  pause,
  PREFIX,
  putConfig,
  putLease,
  reasonsOf,
  startStore,
  until,
} from '../support/store-fixture.js';

t.setTimeout(120_000);

const counter = ({ store }: Pick<Fixture, 'store'>, name: string): number =>
  store.metrics().find((family) => family.name === name)!.values[0].value;

t.test('E6 quota full: named, tried at most once a second, renewed after disarm', async (t) => {
  const etcd = await startEtcd({ args: ['--quota-backend-bytes', '16777216'] });
  t.teardown(() => etcd.remove());
  await putConfig(etcd);
  const bench = await startStore({ endpoints: etcd.url, tuning: { leaseTtlSeconds: 12 } });
  t.teardown(() => bench.store.close());
  const filler = Buffer.alloc(1_000_000, 'x').toString('base64');
  for (let i = 0; i < 40; i++) {
    const key = Buffer.from(`/filler/${i}`).toString('base64');
    const response = await fetch(`${etcd.url}/v3/kv/put`, {
      method: 'POST',
      body: JSON.stringify({ key, value: filler }),
    });
    const text = await response.text();
    if (text.includes('space exceeded')) break;
  }
  await until(
    () => reasonsOf(bench.store).some((reason) => reason.includes('alarm NOSPACE')),
    'alarm shown',
    5000,
  );
  await until(() => counter(bench, 'lease_renewal_failures_total') > 0, 'a renewal failed');
  const failures = counter(bench, 'lease_renewal_failures_total');
  await pause(3000);
  t.ok(counter(bench, 'lease_renewal_failures_total') - failures <= 3, 'at most once a second');
  t.ok(
    reasonsOf(bench.store).some((reason) => /not renewed: .*space exceeded/.test(reason)),
    'says what is not renewed',
  );
  t.equal(bench.recorder.table.size, 1, 'the table stays');
  await etcd.ctl('del', '--prefix', '/filler');
  const status = JSON.parse(await etcd.ctl('endpoint', 'status', '-w', 'json')) as {
    Status: { header: { revision: number } };
  }[];
  await etcd.ctl('compact', String(status[0].Status.header.revision));
  await etcd.ctl('defrag');
  await etcd.ctl('alarm', 'disarm');
  await until(
    () => counter(bench, 'lease_renewals_total') + counter(bench, 'lease_recreated_total') > 0,
    'renewed',
    10_000,
  );
  await until(() => reasonsOf(bench.store).length === 0, 'healthy', 5000);
  await converged(etcd, bench.recorder);
});

t.test('E7 user and password: wrong, changed, removed, token lost, authentication toggled', async (t) => {
  const ctlArgs = ['--user', 'root:rootpw'];
  const [clientPort, peerPort] = [await freePort(), await freePort()];
  const members = `m0=http://127.0.0.1:${peerPort}`;
  const open = new EtcdServer('m0', clientPort, peerPort, members, {});
  t.teardown(() => open.remove());
  open.start();
  await open.ready();
  await putConfig(open);
  for (const line of [
    'user add root:rootpw',
    'user grant-role root root',
    'role add overlay',
    `role grant-permission overlay --prefix=true readwrite ${PREFIX}/`,
    `user add twill:${PASSWORD}`,
    'user grant-role twill overlay',
    'auth enable',
  ]) {
    await open.ctl(...line.split(' '));
  }
  // Only what is below "<prefix>/": flanneld's raw range needs one more, as its documentation grants it.
  await open.ctl(...ctlArgs, 'role', 'grant-permission', 'overlay', '--prefix=true', 'readwrite', PREFIX);

  const wrong = makeStore({
    endpoints: open.url,
    store: { username: 'twill', password: `${PASSWORD}-wrong` },
  });
  const reading = wrong.store.readConfig(AbortSignal.timeout(20_000));
  await until(
    () => reasonsOf(wrong.store).some((reason) => reason.startsWith('etcd authentication failed: ')),
    'auth reason',
  );
  const shown = JSON.stringify([wrong.log, reasonsOf(wrong.store), wrong.store.status()]);
  t.notMatch(shown, PASSWORD, 'no password anywhere');
  t.ok(wrong.log.filter((line) => line.level === 'warn').length <= 3, 'logged once, not per attempt');
  await open.ctl(...ctlArgs, 'user', 'delete', 'twill');
  await open.ctl(...ctlArgs, 'user', 'add', `twill:${PASSWORD}-wrong`);
  await open.ctl(...ctlArgs, 'user', 'grant-role', 'twill', 'overlay');
  const { config } = await reading;
  t.equal(config.networks.v4?.subnetLength, 24, 'goes on once the password is right');
  wrong.store.close();

  const bench = await startStore({
    endpoints: open.url,
    store: { username: 'twill', password: `${PASSWORD}-wrong` },
  });
  t.teardown(() => bench.store.close());
  /** A server that has just started may time out first. */
  const put = (name: string): Promise<number> =>
    until(
      async () => {
        const key = `${PREFIX}/subnets/${name}`;
        const { code } = await open.tryCtl(
          ...ctlArgs,
          'put',
          key,
          '{"PublicIP":"172.20.0.7","PublicIPv6":null}',
        );
        return code === 0;
      },
      `${name} to be written`,
      20_000,
    );
  await open.kill(); // simple tokens live in memory: every token is invalid afterwards
  open.start();
  await until(
    () => bench.store.status().watchEstablished === true,
    'watching again after the token was lost',
  );
  await put('10.5.40.0-24');
  await until(() => bench.recorder.table.has('10.5.40.0/24'), 'event after the token was lost');

  await open.ctl(...ctlArgs, 'auth', 'disable');
  await open.kill();
  open.start();
  await until(() => bench.store.status().watchEstablished === true, 'watching with authentication off');
  await putLease(open, '10.5.41.0-24', '172.20.0.8');
  await until(() => bench.recorder.table.has('10.5.41.0/24'), 'event with authentication off');

  await open.ctl('auth', 'enable');
  await open.kill();
  open.start();
  await until(() => bench.store.status().watchEstablished === true, 'watching with authentication on again');
  await put('10.5.42.0-24');
  await until(() => bench.recorder.table.has('10.5.42.0/24'), 'event with authentication on again');
  t.notMatch(JSON.stringify([bench.log, bench.store.status()]), PASSWORD);
  t.equal(bench.recorder.deletes, 0);
});

/** A CA and certificates signed by it, made with openssl. */
class Pki {
  readonly dir = mkdtempSync(join(tmpdir(), `twill-pki-${process.pid}-`));

  path(name: string): string {
    return join(this.dir, name);
  }

  ca(name: string): void {
    this.#openssl(
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      '-nodes',
      '-days',
      '2',
      '-subj',
      `/CN=${name}`,
      '-keyout',
      this.path(`${name}.key`),
      '-out',
      this.path(`${name}.crt`),
    );
  }

  cert(name: string, ca: string, san: string): void {
    const csr = this.path(`${name}.csr`);
    writeFileSync(
      this.path(`${name}.ext`),
      `subjectAltName=${san}\nextendedKeyUsage=serverAuth,clientAuth\n`,
    );
    this.#openssl(
      'req',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      '-nodes',
      '-subj',
      `/CN=${name}`,
      '-keyout',
      this.path(`${name}.key.new`),
      '-out',
      csr,
    );
    this.#openssl(
      'x509',
      '-req',
      '-in',
      csr,
      '-CA',
      this.path(`${ca}.crt`),
      '-CAkey',
      this.path(`${ca}.key`),
      '-CAcreateserial',
      '-days',
      '2',
      '-extfile',
      this.path(`${name}.ext`),
      '-out',
      this.path(`${name}.crt.new`),
    );
    renameSync(this.path(`${name}.key.new`), this.path(`${name}.key`));
    renameSync(this.path(`${name}.crt.new`), this.path(`${name}.crt`));
  }

  #openssl(...args: string[]): void {
    execFileSync('openssl', args, { stdio: 'pipe' });
  }
}

t.test('E8 TLS: lone CA, client certificates, wrong CA, wrong name, plain text, rotation', async (t) => {
  const pki = new Pki();
  t.teardown(() => rmSync(pki.dir, { recursive: true }));
  pki.ca('ca1');
  pki.ca('ca2');
  pki.cert('server', 'ca1', 'IP:127.0.0.1');
  pki.cert('client', 'ca1', 'DNS:client');
  writeFileSync(pki.path('trusted.crt'), execFileSync('cat', [pki.path('ca1.crt')]));
  const ctlArgs = [
    '--cacert',
    pki.path('ca1.crt'),
    '--cert',
    pki.path('client.crt'),
    '--key',
    pki.path('client.key'),
  ];
  const serverArgs = ['--cert-file', pki.path('server.crt'), '--key-file', pki.path('server.key')];
  const strict = [...serverArgs, '--client-cert-auth', '--trusted-ca-file', pki.path('ca1.crt')];
  const [lone, mutual] = await Promise.all([
    startEtcd({ scheme: 'https', args: serverArgs, ctlArgs }),
    startEtcd({ scheme: 'https', args: strict, ctlArgs }),
  ]);
  t.teardown(() => Promise.all([lone.remove(), mutual.remove()]));
  await Promise.all([putConfig(lone), putConfig(mutual)]);
  const tls = (ca: string, client?: string): NonNullable<FixtureOptions['store']> => ({
    tls: {
      caFile: ca === '' ? '' : pki.path(ca),
      keyFile: client === undefined ? '' : pki.path(`${client}.key`),
      certFile: client === undefined ? '' : pki.path(`${client}.crt`),
    },
  });

  const withCa = await startStore({ endpoints: lone.url, store: tls('ca1.crt') });
  t.match(withCa.store.status(), { connectedTo: lone.url }, 'a lone CA file is honoured');
  await withCa.store.close();

  const refused = async (
    endpoints: string,
    store: NonNullable<FixtureOptions['store']>,
    reason: RegExp,
    name: string,
  ): Promise<void> => {
    const bad = makeStore({ endpoints, store });
    bad.store.readConfig(AbortSignal.timeout(10_000)).catch(() => undefined);
    await until(
      () => reasonsOf(bad.store).some((text) => reason.test(text)),
      `${name}: ${reason}`,
      8000,
    ).catch((error: Error) => {
      t.fail(`${error.message}; shown: ${JSON.stringify(reasonsOf(bad.store))}`);
    });
    t.pass(`${name}: ${reasonsOf(bad.store)[0]}`);
    bad.store.close();
  };
  await refused(lone.url, tls('ca2.crt'), /^etcd TLS failed: .*certificate/, 'wrong CA');
  await refused(lone.url, tls(''), /^etcd TLS failed: .*certificate/, 'no CA');
  await refused(
    lone.url.replace('127.0.0.1', 'localhost'),
    tls('ca1.crt'),
    /^etcd TLS failed: .*altnames/,
    'wrong name',
  );
  await refused(mutual.url, tls('ca1.crt'), /^etcd (TLS failed|unreachable): /, 'client certificate missing');
  await refused(
    lone.url.replace('https', 'http'),
    tls(''),
    /^etcd (TLS failed|unreachable): /,
    'plain text to a TLS port',
  );

  const bench = await startStore({ endpoints: mutual.url, store: tls('trusted.crt', 'client') });
  t.teardown(() => bench.store.close());
  const opened = Number(bench.store.status().sessionsOpened);
  pki.cert('client', 'ca1', 'DNS:client');
  await until(
    () => Number(bench.store.status().sessionsOpened) > opened,
    'new client certificate used',
    5000,
  );
  await until(() => bench.store.status().watchEstablished === true, 'watching with the new one');

  writeFileSync(pki.path('client.key.new'), 'half a file');
  renameSync(pki.path('client.key.new'), pki.path('client.key'));
  await until(
    () => reasonsOf(bench.store).some((reason) => /not renewed: .*client\.key/.test(reason)),
    'bad file named',
    5000,
  );
  t.equal(bench.store.status().watchEstablished, true, 'the old ones stay in use');
  pki.cert('client', 'ca1', 'DNS:client');
  await until(() => reasonsOf(bench.store).length === 0, 'good file taken', 5000);

  // CA rotation: the server gets a certificate of the new CA, then we get the new CA.
  pki.cert('server', 'ca2', 'IP:127.0.0.1');
  mutual.signal('SIGKILL');
  await until(() => !mutual.isRunning, 'ended');
  mutual.start();
  await until(
    () => reasonsOf(bench.store).some((reason) => reason.startsWith('etcd TLS failed')),
    'new CA unknown',
    8000,
  );
  writeFileSync(pki.path('trusted.new'), execFileSync('cat', [pki.path('ca1.crt'), pki.path('ca2.crt')]));
  renameSync(pki.path('trusted.new'), pki.path('trusted.crt'));
  await until(
    () => bench.store.status().watchEstablished === true && reasonsOf(bench.store).length === 0,
    'CA taken without restart',
    8000,
  );
  t.equal(bench.recorder.table.size, 1);
  t.equal(bench.recorder.deletes, 0);
});

t.test('E17 one of three endpoints refuses, one is a black hole: started within 5 s', async (t) => {
  const etcd = await startEtcd();
  t.teardown(() => etcd.remove());
  await putConfig(etcd);
  const sockets: Socket[] = [];
  const hole = createServer((socket) => sockets.push(socket));
  await new Promise<void>((resolve) => hole.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    hole.close();
  });
  const { port } = hole.address() as { port: number };
  const startedAtMs = performance.now();
  const bench = await startStore({
    endpoints: `http://127.0.0.1:${await freePort()},http://127.0.0.1:${port},${etcd.url}`,
  });
  t.ok(performance.now() - startedAtMs < 2000, `${Math.round(performance.now() - startedAtMs)} ms`);
  await bench.store.close();
});
