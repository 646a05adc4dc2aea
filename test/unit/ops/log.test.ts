import t from 'tap';
import { openLogger } from '../../../src/ops/log.js';

function linesOf(format: 'json' | 'text', use: (log: ReturnType<typeof openLogger>) => void): string {
  let text = '';
  use(openLogger({ level: 'info', format, write: (line) => (text += line) }));
  return text;
}

t.test('openLogger() writes one line an entry, in either format', (t) => {
  const text = linesOf('text', (log) =>
    log.warn({ peer: '172.20.0.2', err: new Error('no way') }, 'cannot\nsend\u001b[2J\u009b'),
  );
  t.match(text, /^\d{4}-\d\d-\d\dT[\d:.]+Z warn {2}cannot\\u000asend\\u001b\[2J\\u009b peer/);
  t.equal(text.split('\n').length, 2, 'a line break in a message makes no line');
  t.match(text, /peer=172\.20\.0\.2 err="no way"\n$/);
  const json = JSON.parse(linesOf('json', (log) => log.info({ a: 1 }, 'hello'))) as Record<string, unknown>;
  t.match(json, { level: 'info', msg: 'hello', a: 1 });
  t.equal(
    linesOf('text', (log) => log.debug('hidden')),
    '',
  );
  t.end();
});

t.test('a secret never gets into a line', (t) => {
  for (const format of ['json', 'text'] as const) {
    const text = linesOf(format, (log) => {
      log.info({ etcdPassword: 'canary' }, 'a');
      log.info({ flags: { etcdPassword: 'canary' }, auth: { password: 'canary' } }, 'b');
    });
    t.notMatch(text, /canary/);
    t.match(text, /\[redacted\]/);
  }
  t.end();
});
