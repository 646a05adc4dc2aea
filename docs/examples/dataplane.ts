import { execFileSync } from 'node:child_process';
import { openDataPath, parseIpv4, parsePrefix, RouteTable } from '@twill-overlay/twill/dataplane';

const network = parsePrefix('10.5.0.0/16')!;
const table = new RouteTable(network);
table.set(parsePrefix('10.5.2.0/24')!, { address: parseIpv4('172.20.0.2')!, port: 8285, mtuBytes: 1472 });
table.publish();

const path = openDataPath({
  device: 'flannel0',
  listenAddress: parseIpv4('172.20.0.1')!,
  network,
  ownSubnet: parsePrefix('10.5.1.0/24')!,
  table,
  onFailure: (reason) => console.error(reason),
});
await path.start();
execFileSync('ip', ['address', 'add', '10.5.1.0/16', 'dev', 'flannel0']);
execFileSync('ip', ['link', 'set', 'flannel0', 'mtu', '1472', 'up']);
path.probe();
console.log('the data path is open', path.granted());

process.once('SIGTERM', async () => {
  const { outbound } = await path.close();
  console.log(`${outbound.values.packets_out} packets were sent`);
});
