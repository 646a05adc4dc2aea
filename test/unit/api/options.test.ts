import t from 'tap';
import { valuesOf } from '../../../src/api/options.js';
import { FLAGS } from '../../../src/config/flags.js';

t.test('valuesOf() a group is what was given, and the defaults of the flags', (t) => {
  const defaults = valuesOf('backend', FLAGS.backend);
  t.equal(defaults.sourceCheck, 'strict');
  t.equal(defaults.queues, 1);
  t.same(valuesOf('backend', FLAGS.backend, { queues: 4 }), { ...defaults, queues: 4 });
  const iface = ['eth0', '192.0.2.1'];
  t.same(valuesOf('underlay', FLAGS.underlay, { iface }).iface, iface);
  t.equal(valuesOf('firewall', FLAGS.firewall, { ipMasq: true }).ipMasq, true);
  t.end();
});

t.test('valuesOf() refuses what the command line would refuse', (t) => {
  const check = (call: () => unknown, message: string): void => void t.throws(call, new RangeError(message));
  check(
    () => valuesOf('backend', FLAGS.backend, { queues: 0 }),
    'backend.queues is 0: expected an integer from 1 to 256',
  );
  check(
    () => valuesOf('backend', FLAGS.backend, { sourceCheck: 'lax' as 'loose' }),
    'backend.sourceCheck is "lax": expected one of strict, loose, audit, off',
  );
  check(
    () => valuesOf('backend', FLAGS.backend, JSON.parse('{"queue":1}') as object),
    'backend has no option "queue"',
  );
  t.end();
});
