import { openOverlay } from '@twill-overlay/twill';

const overlay = await openOverlay({
  store: { kind: 'static', staticFile: process.argv[2] },
  subnetFile: process.argv[3],
  underlay: { iface: ['eth0'] },
});
console.log('this host has', overlay.status().lease?.subnet);
void overlay.ended.then((end) => console.error('it cannot go on', end));
process.once('SIGTERM', () => void overlay.close());
