import t from 'tap';
import { openLogger } from '../../../src/core/log.js';
import { causeOf, LogLimiter } from '../../../src/core/log-limit.js';

t.test('LogLimiter: a few lines of a cause at once, then one in ten seconds with the count', (t) => {
  let nowMs = 0;
  const limiter = new LogLimiter(() => nowMs);
  const lines: string[] = [];
  const say = (text: string, level = 'warn'): void =>
    limiter.say(level, text, (repeated) => lines.push(repeated === 0 ? text : `${text} +${repeated}`));
  for (let i = 0; i < 1_000; i++) say(`lease 10.5.${i % 256}.0/24 is refused: public IP 10.0.0.${i % 256}`);
  t.equal(lines.length, 5);
  t.ok(limiter.isHolding);
  say('lease of another kind');
  t.equal(lines.pop(), 'lease of another kind', 'another cause has its own');
  nowMs = 9_999;
  limiter.flush();
  t.equal(lines.length, 5);
  nowMs = 10_000;
  limiter.flush();
  t.equal(lines.length, 6);
  t.match(lines[5], /^lease 10\.5\.231\.0\/24 .* \+994$/, 'the last one, and how many it stands for');
  t.notOk(limiter.isHolding);
  say('lease 10.5.1.0/24 is refused: public IP 10.0.0.1');
  limiter.flush(true);
  t.equal(lines.length, 7, 'nothing is kept back at the end');
  t.end();
});

t.test('LogLimiter: many causes are bounded too, but do not silence another level', (t) => {
  let nowMs = 0;
  const limiter = new LogLimiter(() => nowMs);
  const counts = { warn: 0, error: 0 };
  const word = (i: number): string => String.fromCharCode(97 + (i % 26), 97 + ((i / 26) % 26), 97 + i / 676);
  for (let i = 0; i < 5_000; i++) limiter.say('warn', word(i), () => counts.warn++);
  limiter.say('error', 'broken', () => counts.error++);
  t.same(counts, { warn: 50, error: 1 });
  nowMs = 10_000;
  for (let i = 0; i < 20; i++) limiter.flush();
  t.equal(counts.warn, 100, 'five a second');
  t.end();
});

t.test('causeOf() leaves out what a neighbour can vary', (t) => {
  const texts = ['lease 10.5.1.0/24 of "a b" is bad', 'lease 10.5.22.0/24 of "c" is bad'];
  t.equal(causeOf('warn', texts[0]), causeOf('warn', texts[1]));
  t.not(causeOf('warn', texts[0]), causeOf('error', texts[0]));
  t.end();
});

t.test('openLogger() holds floods back, and recoveries as well, but not what was asked for by --v', (t) => {
  const lines: string[] = [];
  const log = openLogger({ level: 'debug', format: 'json', write: (line) => lines.push(line) });
  for (let i = 0; i < 100; i++) {
    log.warn({ peer: i }, `peer ${i} left out`);
    log.info(`peer ${i} is back`);
  }
  t.equal(lines.length, 10);
  for (let i = 0; i < 100; i++) log.debug(`detail ${i}`);
  t.equal(lines.length, 110);
  t.end();
});
