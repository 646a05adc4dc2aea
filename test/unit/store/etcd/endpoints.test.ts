import t from 'tap';
import { parseEndpoints } from '../../../../src/store/etcd/endpoints.js';

t.test('parseEndpoints() takes what flanneld takes, and forgives blanks and slashes', (t) => {
  const cases: [string, boolean, string[]][] = [
    [
      'http://127.0.0.1:4001,http://127.0.0.1:2379',
      false,
      ['http://127.0.0.1:4001', 'http://127.0.0.1:2379'],
    ],
    [' http://a:2379/ , https://b:2379// ,', false, ['http://a:2379', 'https://b:2379']],
    ['a:1,b', false, ['http://a:1', 'http://b:2379']],
    ['a:1,http://b:2', true, ['https://a:1', 'http://b:2']],
    ['http://[fd00::1]:2379', false, ['http://[fd00::1]:2379']],
    ['HTTP://a:1,http://a:1', false, ['http://a:1']],
  ];
  for (const [text, hasTls, expected] of cases) {
    t.strictSame(
      parseEndpoints(text, hasTls).map((endpoint) => endpoint.url),
      expected,
      text,
    );
  }
  t.end();
});

t.test('parseEndpoints() names what it refuses, but no user information', (t) => {
  const refused = [
    '',
    ' , ',
    'ftp://a:1',
    'unix:///run/etcd.sock',
    'http://a:0',
    'http://a:65536',
    'http://a:x',
    'http://a/path',
    'http://a b',
    'http://',
  ];
  for (const text of refused) {
    t.throws(() => parseEndpoints(text, false), { code: 'E_USAGE', message: '--etcd-endpoints' }, text);
  }
  t.throws(() => parseEndpoints('http://user:canary@a:1', false), { message: /^(?!.*canary).*\[redacted\]/ });
  t.end();
});
