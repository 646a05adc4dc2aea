import t from 'tap';
import { isSpared } from '../../../src/store/no-proxy.js';

t.test('isSpared() reads NO_PROXY as Go does', (t) => {
  const cases: [target: string, list: string, expected: boolean][] = [
    ['127.0.0.1:6443', '', true],
    ['127.8.9.1:6443', '', true],
    ['[::1]:6443', '', true],
    ['LocalHost:6443', '', true],
    ['10.1.2.3:6443', '', false],
    ['10.1.2.3:6443', 'a,,b', false],
    ['10.1.2.3:6443', '*', true],
    ['10.1.2.3:6443', '127.0.0.1, 10.0.0.0/8', true],
    ['10.1.2.3:6443', '10.0.0.0/33,10.0.0.0/,10.0.0.0/x', false],
    ['10.1.2.3:6443', '11.0.0.0/8', false],
    ['10.1.2.3:6443', '10.1.2.3', true],
    ['10.1.2.3:6443', '10.1.2.3:6443', true],
    ['10.1.2.3:6443', '10.1.2.3:443', false],
    ['10.1.2.3:6443', '.2.3', true], // of an address, too, Go compares the end
    ['[fd00::1]:6443', 'fd00::/8', true],
    ['[fd00::1]:6443', 'fd00:0::1', true],
    ['[fd00::1]:6443', '[fd00::1]', true],
    ['[fd00::1]:6443', '[fd00::1]:6443', true],
    ['[fd00::1]:6443', '[fd00::1]:443', false],
    ['[fd00::1]:6443', '10.0.0.0/8', false],
    ['api.example:6443', 'API.EXAMPLE', true],
    ['api.example:6443', 'example', true],
    ['api.example:6443', 'example:6443', true],
    ['api.example:6443', 'example:443', false],
    ['api.example:6443', '.example', true],
    ['api.example:6443', '*.example', true],
    ['api.example:6443', '.api.example', false],
    ['api.example:6443', '*.api.example', false],
    ['apiexample:6443', 'example', false],
    ['api.example:6443', '10.0.0.0/8', false],
    ['api.example:6443', '.', false],
    ['api.example:6443', ':6443', false],
  ];
  for (const [target, list, expected] of cases)
    t.equal(isSpared(target, list), expected, `${target} with "${list}"`);
  t.end();
});
