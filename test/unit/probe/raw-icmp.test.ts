import t from 'tap';
import { whyNotLoaded } from '../../../src/probe/raw-icmp.js';

t.test('whyNotLoaded() says what to do about raw-socket', (t) => {
  const cases: [string, string | undefined, RegExp][] = [
    ["Cannot find module 'raw-socket'\nRequire stack:", 'MODULE_NOT_FOUND', /not installed$/],
    ["Cannot find module './build/Release/raw'", 'MODULE_NOT_FOUND', /not built: npm rebuild raw-socket$/],
    [
      "The module '/x/raw.node'\nwas compiled against a different Node.js version using NODE_MODULE_VERSION 108.",
      'ERR_DLOPEN_FAILED',
      /another Node than v\d.*\(ABI \d+\).*npm rebuild raw-socket/,
    ],
    ['/lib/x86_64-linux-gnu/libc.so.6: version not found', 'ERR_DLOPEN_FAILED', /or another system/],
    ['something else', undefined, /cannot be loaded: something else$/],
  ];
  for (const [message, code, expected] of cases)
    t.match(whyNotLoaded(Object.assign(new Error(message), code === undefined ? {} : { code })), expected);
  t.end();
});
