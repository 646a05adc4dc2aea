// Ways whose packets a process carries, other than twill's.

import { execFileSync } from 'node:child_process';
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Host, type Lab, type Task, waitFor } from '../../test/support/lab.js';
import { betweenHosts, bothWays, isThere, missingProgram, pair, type PeerKind, setInnerMtu } from './peer.js';

/** A route through a point-to-point device, as wireguard-go and fastd make them. */
function routeThrough(lab: Lab, host: Host, other: Host, device: string, mtuBytes: number): void {
  lab.ip(host.ns, `link set ${device} mtu ${mtuBytes} up`);
  lab.ip(host.ns, `route add ${other.subnet} dev ${device}`);
  setInnerMtu(lab, host, mtuBytes);
}

const deviceAppears = (lab: Lab, host: Host, device: string): Promise<void> =>
  waitFor(() => lab.ip(host.ns, 'link show').includes(` ${device}:`), `${device} to appear`);

/** A tunnel without trains, offloads and batches: what is left of flanneld's udp backend without its control plane. */
export const PLAIN_LOOP: PeerKind = {
  name: 'plain packet loop',
  missing: isThere,
  start: async (place) => {
    const { lab } = place;
    const program = lab.compile('bench/load/plain-loop.cc');
    const hosts = pair(place);
    const daemons: Task[] = [];
    for (const [host, other] of bothWays(hosts)) {
      daemons.push(lab.spawn(host.ns, program, ['plain0', host.underlayIp, other.underlayIp, '8285']));
    }
    for (const [host, other] of bothWays(hosts)) {
      await deviceAppears(lab, host, 'plain0');
      routeThrough(lab, host, other, 'plain0', 1472);
    }
    return betweenHosts(hosts, daemons);
  },
};

export const FASTD: PeerKind = {
  name: 'fastd, method null',
  missing: () => missingProgram('fastd'),
  start: async (place) => {
    const { lab } = place;
    const hosts = pair(place);
    const key = (what: string, input?: string): string =>
      execFileSync('fastd', ['--machine-readable', what, ...(input === undefined ? [] : ['-c', input])], {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore'],
      }).trim();
    const secrets = new Map(hosts.map((host) => [host, key('--generate-key').split('\n')[0].trim()]));
    const publicKey = (host: Host): string => {
      const file = join(host.dir, 'secret.conf');
      writeFileSync(file, `secret "${secrets.get(host)!}";\n`, { mode: 0o600 });
      return key('--show-key', file);
    };
    const daemons: Task[] = [];
    for (const [host, other] of bothWays(hosts)) {
      const file = join(host.dir, 'fastd.conf');
      const peer = `peer "p" { key "${publicKey(other)}"; remote ${other.underlayIp} port 10000; }`;
      const lines = [
        'mode tun;',
        `interface "fd${host.index}";`,
        'method "null";',
        `bind ${host.underlayIp}:10000;`,
        'mtu 1440;',
        `secret "${secrets.get(host)!}";`,
        peer,
      ];
      writeFileSync(file, `${lines.join('\n')}\n`, { mode: 0o600 });
      daemons.push(lab.spawn(host.ns, 'fastd', ['-c', file]));
    }
    for (const [host, other] of bothWays(hosts)) {
      await deviceAppears(lab, host, `fd${host.index}`);
      routeThrough(lab, host, other, `fd${host.index}`, 1440);
    }
    return betweenHosts(hosts, daemons);
  },
};

export const WIREGUARD_GO: PeerKind = {
  name: 'wireguard-go',
  missing: () => missingProgram('wireguard-go') ?? missingProgram('wg'),
  start: async (place) => {
    const { lab } = place;
    const hosts = pair(place);
    const text = (args: string[], input?: string): string =>
      execFileSync('wg', args, { encoding: 'utf8', ...(input === undefined ? {} : { input }) }).trim();
    const secrets = new Map(hosts.map((host) => [host, text(['genkey'])]));
    const daemons: Task[] = [];
    for (const [host, other] of bothWays(hosts)) {
      const device = `wg${process.pid % 100_000}-${host.index}`;
      const socket = `/var/run/wireguard/${device}.sock`;
      // The daemon of the suite before was killed and has left its own; so will this one.
      rmSync(socket, { force: true });
      process.once('exit', () => rmSync(socket, { force: true }));
      daemons.push(lab.spawn(host.ns, 'wireguard-go', ['-f', device]));
      // wg asks the kernel's WireGuard as long as the socket of this one is not there.
      await waitFor(() => existsSync(socket), socket);
      const file = join(host.dir, 'wg.key');
      writeFileSync(file, secrets.get(host)!, { mode: 0o600 });
      const peer = ['peer', text(['pubkey'], secrets.get(other)), 'endpoint', `${other.underlayIp}:51820`];
      const args = ['set', device, 'listen-port', '51820', 'private-key', file, ...peer];
      await lab.run(host.ns, 'wg', [...args, 'allowed-ips', '10.5.0.0/16']);
      routeThrough(lab, host, other, device, 1420);
    }
    return betweenHosts(hosts, daemons);
  },
};
