import t from 'tap';
import { ipBatch, ipBatchJson, meansGone, parseBatchReport } from '../../../src/kernel/ip.js';

t.test('parseBatchReport() joins each refused line number with what was written before it', (t) => {
  const report = parseBatchReport(
    'RTNETLINK answers: No such process\nCommand failed -:3\n' +
      'Cannot find device "nope"\nCommand failed -:4\n' +
      'Error: Nexthop has invalid gateway.\nCommand failed -:5000\n',
  );
  t.strictSame(report, {
    failed: [
      { lineNumber: 3, message: 'RTNETLINK answers: No such process' },
      { lineNumber: 4, message: 'Cannot find device "nope"' },
      { lineNumber: 5000, message: 'Error: Nexthop has invalid gateway.' },
    ],
    stoppedBy: undefined,
  });
  t.end();
});

t.test('parseBatchReport() tells when the tool stopped early', (t) => {
  t.strictSame(parseBatchReport('Error: any valid prefix is expected rather than "x/33".\n'), {
    failed: [],
    stoppedBy: 'Error: any valid prefix is expected rather than "x/33".',
  });
  t.strictSame(parseBatchReport('a\nCommand failed -:1\nb\nc\n'), {
    failed: [{ lineNumber: 1, message: 'a' }],
    stoppedBy: 'b; c',
  });
  t.strictSame(parseBatchReport(''), { failed: [], stoppedBy: undefined });
  t.end();
});

t.test('meansGone() knows how each tool says that there is nothing to delete', (t) => {
  for (const message of [
    'RTNETLINK answers: No such process',
    'RTNETLINK answers: No such file or directory',
    'RTNETLINK answers: Cannot assign requested address',
    'Cannot find device "flannel.1"',
    'Device "flannel.1" does not exist.',
    'Error: FIB table does not exist.',
    'Error: ipv4: Address not found.',
    'Error: ipv6: address not found.',
    'Error: ipv6: IPv6 is disabled on this device.',
  ]) {
    t.ok(meansGone(message), message);
  }
  t.notOk(meansGone('RTNETLINK answers: Operation not permitted'));
  t.notOk(meansGone('RTNETLINK answers: No buffer space available'));
  t.end();
});

t.test('ipBatch() names the refused lines, also those that make iproute2 stop', async (t) => {
  const lines = [
    'link show lo',
    'route get x/33',
    'bogus',
    'link show dev nosuch0',
    'link show lo',
    'route get y/33',
  ];
  const failures = await ipBatch(lines);
  t.strictSame(
    failures.map(({ index, line }) => [index, line]),
    [1, 2, 3, 5].map((index) => [index, lines[index]]),
  );
  t.match(failures[0].message, 'x/33');
  t.match(failures[2].message, 'nosuch0');
  t.strictSame(await ipBatch([]), []);
});

t.test('ipBatchJson() gives each query its own answer', async (t) => {
  const answers = await ipBatchJson<{ ifname: string }>(['link show lo', 'bogus', 'link show dev lo']);
  t.strictSame(
    answers.map((rows) => rows?.map((row) => row.ifname)),
    [['lo'], undefined, ['lo']],
  );
});

t.test('ipBatch() rejects when the tool cannot run, and when it is told to stop', async (t) => {
  await t.rejects(ipBatch(['link show lo'], { signal: AbortSignal.abort(new Error('stopping')) }), {
    message: 'stopping',
  });
});
