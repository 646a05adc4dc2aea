import t from 'tap';
import { parseServer } from '../../../../../src/store/kube/api/server-address.js';
import {
  type Environment,
  parseProxy,
  proxyOfEnvironment,
} from '../../../../../src/store/kube/api/web-proxy.js';

const FLAG = { name: '--kube-api-url', code: 'E_USAGE' } as const;

t.test('parseServer() reads URLs as client-go does', (t) => {
  const cases: [text: string, url: string, target: string, prefix: string][] = [
    ['https://10.0.0.1', 'https://10.0.0.1:443', '10.0.0.1:443', ''],
    ['http://10.0.0.1/', 'http://10.0.0.1:80', '10.0.0.1:80', ''],
    ['HTTPS://Api.Example:6443/', 'https://api.example:6443', 'api.example:6443', ''],
    ['https://[fd00::1]:6443', 'https://[fd00::1]:6443', '[fd00::1]:6443', ''],
    ['https://r.example/k8s/c-1/', 'https://r.example:443/k8s/c-1', 'r.example:443', '/k8s/c-1'],
    ['10.0.0.1:8080', 'http://10.0.0.1:8080', '10.0.0.1:8080', ''],
    ['[fd00::1]:8080', 'http://[fd00::1]:8080', '[fd00::1]:8080', ''],
  ];
  for (const [text, url, target, prefix] of cases)
    t.match(parseServer(text, FLAG, 'http'), { url, target, prefix, isTls: url.startsWith('https') });
  t.match(parseServer('api:6443', FLAG, 'https'), { url: 'https://api:6443', host: 'api', port: 6443 });
  t.match(parseServer('https://[::1]', FLAG, 'https'), { host: '::1' });
  t.end();
});

t.test('parseServer() refuses what is no server, and shows no password', (t) => {
  for (const text of [
    '',
    'ftp://x',
    'https://',
    'https:///x',
    'https://a b',
    'https://x:99999',
    'https://x?a=1',
  ])
    t.throws(
      () => parseServer(text, FLAG, 'http'),
      { code: 'E_USAGE', message: /^Cannot use --kube-api-url "/ },
      text,
    );
  t.throws(() => parseServer('https://u:secret@x', FLAG, 'http'), {
    message:
      'Cannot use --kube-api-url "[redacted]": expected [http[s]://]host[:port][/path], without a user',
  });
  t.end();
});

t.test('proxyOfEnvironment() finds the proxy as Go does', (t) => {
  const find = (url: string, environment: Environment): string | undefined =>
    proxyOfEnvironment(parseServer(url, FLAG, 'https'), environment)?.url;
  const https = { HTTPS_PROXY: 'http://proxy:3128' };
  t.equal(find('https://api:6443', https), 'http://proxy:3128');
  t.equal(find('http://api:6443', https), undefined);
  t.equal(find('http://api:6443', { http_proxy: 'proxy' }), 'http://proxy:80');
  t.equal(find('https://api:6443', { https_proxy: 'https://[fd00::1]' }), 'https://[fd00::1]:443');
  t.equal(find('https://api:6443', { ...https, https_proxy: 'http://lower:1' }), 'http://proxy:3128');
  t.equal(find('https://api:6443', { ...https, NO_PROXY: 'api:6443' }), undefined);
  t.equal(find('https://10.96.0.1', { ...https, no_proxy: '10.96.0.0/12' }), undefined);
  t.equal(
    find('https://10.96.0.1', { ...https, NO_PROXY: 'x', no_proxy: '10.96.0.0/12' }),
    'http://proxy:3128',
  );
  t.equal(find('https://127.0.0.1:6443', https), undefined);
  t.throws(() => find('https://api:6443', { HTTPS_PROXY: 'socks5://u:secret@x' }), {
    code: 'E_USAGE',
    message: 'Cannot use the proxy of HTTPS_PROXY: expected http[s]://[user:password@]host[:port]',
  });
  t.end();
});

t.test('parseProxy() takes a user, which it does not show', (t) => {
  const proxy = parseProxy('http://us%40er:pa%3Ass@proxy:3128/', { name: 'HTTPS_PROXY', code: 'E_USAGE' });
  t.equal(proxy.url, 'http://proxy:3128');
  t.equal(proxy.authorization, `Basic ${Buffer.from('us@er:pa:ss').toString('base64')}`);
  t.throws(() => parseProxy('http://%ff@x', { name: 'x', code: 'E_FILE' }), { code: 'E_FILE' });
  t.end();
});
