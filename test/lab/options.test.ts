// IP options between containers, by the mode of the source check: what is let in, what is counted.

import t from 'tap';
import { Lab, labUnavailable, waitFor } from '../support/lab.js';
import { startCluster, statusOf } from '../support/twill-hosts.js';

const skip = labUnavailable();

for (const [check, recorded, refused, audited] of [
  ['strict', 0, 3, 0],
  ['loose', 0, 3, 0],
  ['audit', 3, 0, 3],
  ['off', 3, 0, 0],
] as const) {
  t.test(`IP options with --source-check=${check}`, { skip }, async (t) => {
    const lab = Lab.open(`opt-${check}-`);
    t.teardown(() => lab.close());
    const { hosts } = await startCluster(lab, 2, [`--source-check=${check}`]);
    const [a, b] = hosts;
    const received = lab.spawn(b.containerNs, 'socat', ['-u', 'UDP-RECV:7001', '-']);
    const isListening = async (): Promise<boolean> =>
      (await lab.run(b.containerNs, 'ss', ['-Hlun'])).stdout.includes(':7001');
    await waitFor(isListening, 'the receiver');
    const script = `
import socket, sys
for name, option in (('stream', [136, 4, 0, 1]), ('unknown', [154, 4, 1, 2])):
  s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
  s.setsockopt(0, 4, bytes(option))
  s.sendto(name.encode() + b'\\n', (sys.argv[1], 7001))`;
    await lab.run(a.containerNs, 'python3', ['-c', script, b.containerIp]);
    await waitFor(() => /stream[^]*unknown/.test(received.log()), 'harmless options');

    const ping = ['-n', '-q', '-R', '-c3', '-i0.1', '-W1', b.containerIp];
    const { stdout } = await lab.run(a.containerNs, 'ping', ping, { mustSucceed: false });
    t.equal(Number(/(\d+) received/.exec(stdout)?.[1]), recorded, 'record route');
    const { inbound } = (await statusOf(lab, b)).backend.counters;
    t.equal(inbound.drop_options, refused);
    t.equal(inbound.audit_would_drop, audited);
  });
}
