import t from 'tap';
import { parseUdpBackend } from '../../../../src/backend/udp/config.js';

void t.test('parseUdpBackend() reads the port by Go’s rules', (t) => {
  const cases: readonly (readonly [Record<string, unknown>, number])[] = [
    [{}, 8285],
    [{ Type: 'udp' }, 8285],
    [{ Port: 0 }, 8285],
    [{ Port: 1 }, 1],
    [{ Port: 65535 }, 65535],
    [{ port: 7890 }, 7890],
    [{ PORT: 1, port: 2 }, 2],
    [{ Port: 1, port: 2 }, 1],
    [{ port: 2, Port: 1 }, 1],
    [{ Port: null }, 8285],
  ];
  for (const [backend, port] of cases) t.equal(parseUdpBackend(backend).port, port, JSON.stringify(backend));
  t.end();
});

void t.test('parseUdpBackend() refuses what is no port, naming it', (t) => {
  for (const port of [-1, 65536, 1.5, '8285', true, [], {}, 1e9]) {
    const message = `Backend.Port is ${JSON.stringify(port)}: expected an integer from 1 to 65535`;
    t.throws(() => parseUdpBackend({ Port: port }), { code: 'E_CONFIG', message }, JSON.stringify(port));
  }
  t.end();
});
