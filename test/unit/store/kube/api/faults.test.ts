import t from 'tap';
import {
  faultOfAnswer,
  faultOfStatus,
  KubeFault,
  toKubeFault,
  WayFault,
} from '../../../../../src/store/kube/api/faults.js';

const ACTION = 'patch nodes/status at https://10.96.0.1:443';

t.test('faultOfAnswer() reads a Status, plain text and pages of others', (t) => {
  const status = {
    kind: 'Status',
    message: 'nodes "n1" is forbidden: User "u" cannot patch',
    reason: 'Forbidden',
  };
  const cases: [status: number, text: string, reason: string, message: string][] = [
    [
      403,
      JSON.stringify(status),
      'Forbidden',
      '403 Forbidden: nodes "n1" is forbidden: User "u" cannot patch',
    ],
    [
      429,
      'Too many requests, please try again later.\n',
      '',
      '429 Too many requests, please try again later.',
    ],
    [502, '<html>\r\n<h1>Bad Gateway\u001b[31m</h1>', '', '502 <html> <h1>Bad Gateway [31m</h1>'],
    [500, '', '', '500'],
    [500, '"x"', '', '500 "x"'],
    [500, '{"reason":7,"message":[]}', '', '500'],
  ];
  for (const [code, text, reason, message] of cases) {
    const fault = faultOfAnswer(code, text, undefined, ACTION);
    t.match(fault, { name: 'KubeFault', status: code, reason, retryAfterMs: undefined });
    t.equal(fault.message, `cannot ${ACTION}: ${message}`);
  }
  t.ok(faultOfAnswer(500, 'x'.repeat(100_000), undefined, ACTION).message.length < 500);
  t.ok(
    faultOfAnswer(500, JSON.stringify({ reason: 'x'.repeat(9000) }), undefined, ACTION).message.length < 500,
  );
  t.end();
});

t.test('faultOfAnswer() reads Retry-After as seconds or a date, and bounds it', (t) => {
  const wait = (text: string): number | undefined => faultOfAnswer(429, '', text, ACTION).retryAfterMs;
  t.equal(wait('1'), 1000);
  t.equal(wait('0'), 0);
  t.equal(wait('99999'), 600_000);
  t.equal(wait('soon'), undefined);
  t.equal(wait(new Date(Date.now() - 5000).toUTCString()), 0);
  const later = wait(new Date(Date.now() + 60_000).toUTCString()) ?? 0;
  t.ok(later > 50_000 && later <= 60_000, `${later}`);
  t.end();
});

t.test('faultOfStatus() takes code and wait from the event', (t) => {
  const expired = {
    kind: 'Status',
    message: 'too old resource version: 1 (380)',
    reason: 'Expired',
    code: 410,
  };
  const fault = faultOfStatus(expired, 'watch nodes at s');
  t.match(fault, { status: 410, reason: 'Expired' });
  t.equal(fault.message, 'cannot watch nodes at s: 410 Expired: too old resource version: 1 (380)');
  t.match(faultOfStatus({ code: 429, details: { retryAfterSeconds: 2 } }, ACTION), { retryAfterMs: 2000 });
  t.match(faultOfStatus({ code: 'x', details: 1 }, ACTION), { status: 500, reason: '' });
  t.end();
});

t.test('toKubeFault() says which request it was, once', (t) => {
  const fault = toKubeFault(new WayFault('tls', 'certificate refused\nby us'), ACTION);
  t.match(fault, { status: 0, reason: 'tls', message: `cannot ${ACTION}: certificate refused by us` });
  t.equal(toKubeFault(fault, 'anything else'), fault);
  t.match(toKubeFault(new SyntaxError('no list'), ACTION), { status: 0, reason: 'broken' });
  t.type(fault, KubeFault);
  t.end();
});
