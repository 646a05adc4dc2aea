import { readFileSync } from 'node:fs';
import t from 'tap';
import { MONOTONIC_CLOCK } from '../../../src/core/waiting.js';

t.test('MONOTONIC_CLOCK.bootMs() is the time since the boot, suspensions included', (t) => {
  const uptimeMs = (): number => Number(readFileSync('/proc/uptime', 'utf8').split(' ')[0]) * 1000;
  const before = uptimeMs();
  const now = MONOTONIC_CLOCK.bootMs();
  const after = uptimeMs();
  t.ok(now >= before - 1 && now <= after + 1, `${before} <= ${now} <= ${after}`);
  t.end();
});
