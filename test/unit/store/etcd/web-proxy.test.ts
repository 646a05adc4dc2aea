import t from 'tap';
import { adoptUpperCase, mayUseProxy } from '../../../../src/store/etcd/web-proxy.js';

t.test('mayUseProxy() spares loopback and what no_proxy names', (t) => {
  const check = (target: string, list: string, expected: boolean): void => {
    t.equal(mayUseProxy(target, { no_proxy: list }), expected, `${target} with "${list}"`);
  };
  check('127.0.0.1:2379', '', false);
  check('127.8.9.1:2379', '', false);
  check('[::1]:2379', '', false);
  check('LocalHost:2379', '', false);
  check('10.1.2.3:2379', '', true);
  check('10.1.2.3:2379', 'a,,b', true);
  check('10.1.2.3:2379', '127.0.0.1, 10.0.0.0/8', false);
  check('10.1.2.3:2379', '10.0.0.0/33,10.0.0.0/', true);
  check('10.1.2.3:2379', '11.0.0.0/8', true);
  check('10.1.2.3:2379', '10.1.2.3:2379', false);
  check('10.1.2.3:2379', '10.1.2.3:2380', true);
  check('[fd00::1]:2379', '[fd00::1]', false);
  check('etcd.example:2379', '*', false);
  check('etcd.example:2379', 'EXAMPLE', false);
  check('etcd.example:2379', '.example', false);
  check('etcd.example:2379', '*.example', false);
  check('etcdexample:2379', 'example', true);
  t.equal(mayUseProxy('a.b:1', { no_proxy: '', no_grpc_proxy: 'a.b' }), false);
  t.end();
});

t.test('adoptUpperCase() fills in only what lower case leaves open', (t) => {
  const env: Record<string, string | undefined> = {
    HTTP_PROXY: 'http://upper:1',
    https_proxy: 'http://lower:1',
    HTTPS_PROXY: 'http://upper:2',
    no_proxy: '',
    NO_PROXY: '10.0.0.0/8',
  };
  adoptUpperCase(env);
  t.match(env, { http_proxy: 'http://upper:1', https_proxy: 'http://lower:1', no_proxy: '10.0.0.0/8' });
  t.notOk('grpc_proxy' in env);
  t.end();
});
