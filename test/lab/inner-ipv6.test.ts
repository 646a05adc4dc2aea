// IPv6 inside datagrams of IPv4, between the containers of two hosts of a network of both: the kernel's superpackets
// are cut, sent, merged and given to the other kernel, whose TCP must find every byte; and what cannot be sent is
// answered.

import { join } from 'node:path';
import t from 'tap';
import { addIpv6, IPV6_NETWORK } from '../support/ipv6-host.js';
import { Lab, labUnavailable, waitFor } from '../support/lab.js';
import { sendStream } from '../support/stream.js';
import { startDaemon, statusOf, tableOf, writeTable } from '../support/twill-hosts.js';

const MEGABYTES = 100;

t.test('TCP, echoes of every size and ICMPv6 errors', { skip: labUnavailable() }, async (t) => {
  const lab = Lab.open('in6-');
  t.teardown(() => lab.close());
  const hosts = [lab.addHost(1), lab.addHost(2)];
  const addresses = hosts.map((host) => addIpv6(lab, host));
  const table = tableOf(hosts);
  const file = join(lab.dir, 'static.json');
  writeTable(file, {
    config: { ...table.config, ...IPV6_NETWORK, EnableIPv4: true },
    leases: table.leases.map((lease, i) => ({
      ...lease,
      ipv6Subnet: addresses[i].subnet,
      publicIPv6: addresses[i].underlayIp,
    })),
  });
  for (const host of hosts) await startDaemon(lab, host, file);
  const [{ containerNs }, other] = hosts;
  const to = { ns: other.containerNs, ip: addresses[1].containerIp };
  const ping = async (address: string, ...args: string[]): Promise<string> => {
    const all = ['-6', '-c', '2', '-i', '0.2', '-W', '2', ...args, address];
    return (await lab.run(containerNs, 'ping', all, { mustSucceed: false })).stdout;
  };
  await waitFor(async () => (await ping(to.ip)).includes('2 received'), 'the hosts to carry packets');
  const countersOf = async (host: (typeof hosts)[number]) => (await statusOf(lab, host)).backend.counters;
  const before = await countersOf(other);

  // 1424 is 1472 without the headers of IPv6 and ICMPv6; what is larger goes in fragments.
  for (const size of ['0', '56', '1424', '1425', '9000'])
    t.match(await ping(to.ip, '-s', size), /2 received/, `echo of ${size} bytes`);
  t.match(await ping('fd00:5:0:7::1'), /From fd00:5::.* Destination unreachable: No route/);

  const { sentHash, receivedHash } = await sendStream(lab, containerNs, to, MEGABYTES << 20, 60_000);
  t.ok(sentHash);
  t.equal(receivedHash, sentHash, `${MEGABYTES} MiB`);

  const [first, second] = await Promise.all(hosts.map(countersOf));
  t.ok(first.outbound.trains > 100, `${first.outbound.trains} trains`);
  t.ok(second.inbound.superpackets > 100, `${second.inbound.superpackets} superpackets`);
  t.equal(
    second.inbound.packets_out - before.inbound.packets_out,
    second.inbound.packets_in - before.inbound.packets_in,
    'every packet that was received is delivered',
  );
  t.equal(second.inbound.checksum_bad, 0);
  t.equal(first.outbound.drop_vnet_header, 0);
});
