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
  t.throws(() => parseEndpoints('http://user:pw@a:1', false), { message: /"\[redacted\]".*--etcd-username/ });
  t.throws(() => parseEndpoints('http://a:1,http://b:2/v3', false), {
    message: /"http:\/\/b:2…", item 2 of/,
  });
  t.end();
});

/** Where an endpoint can hold a secret S; the last ones are what is left when a comma in a password cuts it. */
const SECRET_PLACES = [
  ...['root:S@10.0.0.1:2379', 'http://root:S@h:1', 'https://S@h', 'S@h:1', 'http:/root:S@h', '//root:S@h'],
  ...['http://a:1,root:S@h', 'root:S@h,http://a:1', 'http://root:S@h:1/', 'HTTP://root:S@[fd00::1]:2379'],
  ...[
    'http://h?x=S',
    'h?x=S',
    'http://h:1/?token=S',
    'http://h:1#S',
    'h:1#S',
    'http://h/S',
    'http://h/p?S#S',
  ],
  ...['http://h:1?user=root@S', 'http://h:1#root@S', 'http://h/root@S', 'http://root:S', 'root:S', 'S://h:1'],
  ...[
    'http://root:p@S@h:1',
    'http://root:p/S@h:1',
    'http://root:p?S@h:1',
    'http://root:p#S@h',
    'ftp://root:S@h',
  ],
  ...[
    'root%3AS%40h',
    'http://root%3aS%40h:1',
    'http://h%3Fx=S',
    'http://root:1/S%40h',
    'root\uff1aS\uff20h',
    'h;S',
    'h&S',
  ],
  ...[
    'etcd://u:S@h',
    'ETCD://u:S@h',
    'Http://U:S@H:1',
    'http:root:S@h',
    'http://a:1;root:S@h',
    'http://[::1]S',
    '"S"',
  ],
  ...['http://root:p,S@h:1', 'http://root:S,p@h:1', 'http://root:S p@h:1', 'http://h:1 S', 'http://[S]:1'],
];
const SECRETS = [
  'canary',
  'canary:1',
  'can@canary',
  'x/canary',
  '?canary',
  '#canary',
  '%63canary',
  'canary,1',
  'a canary',
];

t.test('parseEndpoints() shows no secret, wherever in a malformed endpoint it stands', (t) => {
  for (const place of SECRET_PLACES) {
    for (const secret of SECRETS) {
      const text = place.replaceAll('S', secret);
      let shown: string;
      try {
        shown = parseEndpoints(text, false)
          .map(({ url }) => url)
          .join();
      } catch (error) {
        shown = (error as Error).message;
      }
      // What is between commas by itself, "canary:1" say, can be told from a host by nobody.
      if (!text.split(',').some((item) => /^canary(:1)?$/.test(item))) t.notMatch(shown, /canary/, text);
    }
  }
  t.end();
});
