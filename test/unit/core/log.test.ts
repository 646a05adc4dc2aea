import { execFileSync, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { openLogger } from '../../../src/core/log.js';
import { folderOf } from '../../support/folder.js';

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

t.test('a reader of the log that hangs, or is gone, stops nobody', (t) => {
  const source = JSON.stringify(fileURLToPath(new URL('../../../src/core/log.ts', import.meta.url)));
  const script = `
    import { writeSync } from 'node:fs';
    import { openLogger } from ${source};
    const log = openLogger({ level: 'info', format: 'text' });
    for (let i = 0; i < 5_000; i++) log.info('x'.repeat(100));
    writeSync(1, 'done\\n');`;
  const node = [process.execPath, '--import', 'tsx', '--input-type=module', '-e', script];
  const end = join(folderOf(t), 'end');
  execFileSync('mkfifo', [end]);
  // The first reader reads nothing until the writer has come to its end.
  for (const reader of [`cat ${end} >/dev/null`, 'true']) {
    const run = `{ { "$@" 2>&1 >&3; [ "${reader}" = true ] || echo >${end}; } | ${reader}; } 3>&1`;
    const { stdout } = spawnSync('timeout', ['10', 'sh', '-c', run, 'sh', ...node], {
      encoding: 'utf8',
      env: { ...process.env, NODE_OPTIONS: '' },
    });
    t.equal(stdout, 'done\n', reader);
  }
  t.end();
});
