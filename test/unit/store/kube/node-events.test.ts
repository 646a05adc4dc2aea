import pino from 'pino';
import t from 'tap';
import { type ConditionCode, CONDITIONS } from '../../../../src/core/conditions.js';
import type { ActiveCondition } from '../../../../src/ops/health.js';
import type { ApiObject } from '../../../../src/store/kube/api/client.js';
import { KubeFault } from '../../../../src/store/kube/api/faults.js';
import { eventReason, NodeEvents } from '../../../../src/store/kube/node-events.js';
import { FakeClock, settle } from '../../../support/fake-clock.js';

function open() {
  const clock = new FakeClock();
  const sent: Record<string, unknown>[] = [];
  const log: string[] = [];
  const faults: KubeFault[] = [];
  const events = new NodeEvents({
    client: {
      create: (path: string, event: ApiObject) => {
        t.equal(path, '/api/v1/namespaces/default/events');
        const fault = faults.shift();
        if (fault !== undefined) return Promise.reject(fault);
        sent.push(event);
        return Promise.resolve(event);
      },
    },
    node: 'node1',
    clock,
    now: () => clock.nowMs(),
    log: pino({}, { write: (line: string) => log.push((JSON.parse(line) as { msg: string }).msg) }),
  });
  const active = (code: ConditionCode, sinceMs: number): ActiveCondition => {
    const { severity, scope, action } = CONDITIONS[code];
    return { code, severity, scope, action, text: `${code}!`, part: 'store', sinceMs };
  };
  const words = (): string[] => sent.map(({ type, reason }) => `${String(type)} ${String(reason)}`);
  return { events, clock, sent, words, log, faults, active };
}

t.test('what lasts is told once, and that it is over', async (t) => {
  const { events, clock, sent, words, active } = open();
  const since = clock.nowMs();
  const missing = active('pod-cidr-missing', since);
  events.note([missing, active('starting', since), active('peer-unreachable', since)]);
  t.strictSame(words(), [], 'not yet: it may be over at once');
  await clock.advance(5000);
  for (let i = 0; i < 20; i++) {
    events.note([missing, active('starting', since), active('peer-unreachable', since)]);
    await clock.advance(1000);
  }
  events.note([]);
  events.note([]);
  t.strictSame(words(), ['Warning PodCidrMissing', 'Normal OverlayReady']);
  t.match(sent[0], {
    kind: 'Event',
    metadata: { namespace: 'default', name: /^node1\.[0-9a-f]+$/ },
    involvedObject: { kind: 'Node', name: 'node1', uid: 'node1' },
    message: /^pod-cidr-missing! \(give the controller manager/,
    source: { component: 'twilld', host: 'node1' },
    count: 1,
  });
  t.not(sent[0]['metadata'], sent[1]['metadata']);
  t.end();
});

t.test('a refused lease is told, though this host is ready', async (t) => {
  const { events, clock, words, active } = open();
  const refused = active('lease-refused', clock.nowMs());
  await clock.advance(6000);
  events.note([refused]);
  t.strictSame(words(), ['Warning LeaseRefused']);
});

t.test('what comes and goes all the time is bounded', async (t) => {
  const { events, clock, words, active } = open();
  const codes = Object.keys(CONDITIONS) as ConditionCode[];
  for (let minute = 0; minute < 60; minute++) {
    const since = clock.nowMs();
    await clock.advance(30_000);
    events.note(codes.map((code) => active(code, since)));
    await clock.advance(30_000);
    events.note([]);
  }
  const warnings = words().filter((word) => word.startsWith('Warning'));
  t.ok(warnings.length <= 10 + 60, `${warnings.length} warnings in an hour`);
  t.ok(words().length <= 10 + 60 + 60, `${words().length} in all`);
});

t.test('that it is over is told of what was told, and bounded, too', async (t) => {
  const { events, clock, words, active } = open();
  for (let round = 0; round < 500; round++) {
    const since = clock.nowMs();
    await clock.advance(6_000);
    events.note([active('node-missing', since)]);
    await clock.advance(1_000);
    events.note([]);
  }
  const [warnings, ends] = ['Warning', 'Normal'].map((type) => words().filter((w) => w.startsWith(type)));
  t.ok(warnings.length > 10, `${warnings.length} warnings in an hour`);
  t.ok(ends.length <= warnings.length, `${ends.length} ends of them`);
});

t.test('an account that may not write Events is told so once', async (t) => {
  const { events, clock, words, log, faults, active } = open();
  faults.push(new KubeFault(403, 'Forbidden', 'cannot create events: 403'));
  const since = clock.nowMs();
  await clock.advance(5000);
  for (let i = 0; i < 100; i++) {
    events.note([active('node-missing', since)]);
    await settle();
    await clock.advance(60_000);
  }
  t.strictSame(log, ['Events are not written: cannot create events: 403']);
  t.ok(words().length >= 1, 'asked again after an hour');
  events.close();
});

t.test('a reason is made of each code', (t) => {
  for (const code of Object.keys(CONDITIONS) as ConditionCode[])
    t.match(eventReason(code), /^[A-Z][A-Za-z]+$/);
  t.end();
});
