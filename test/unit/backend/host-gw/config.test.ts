import t from 'tap';
import { parseHostGwConfig } from '../../../../src/backend/host-gw/config.js';

t.test('parseHostGwConfig() lists what it does not know', (t) => {
  t.strictSame(parseHostGwConfig({ type: 'host-gw', Port: 1 }), { unknownKeys: ['Port'] });
  t.end();
});
