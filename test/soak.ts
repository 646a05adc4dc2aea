// An hour (or the minutes given) of two hosts on etcd under half load, with a fault at random each minute. Says at the
// end what grew: resident memory, descriptors and threads of the daemon that is never restarted. Exit code 1 if too
// much did.
//
//   npm run soak -- [MINUTES [SEED]]

import { readdirSync, readFileSync } from 'node:fs';
import {
  ETCD_PREFIX,
  ETCD_PROGRAMS,
  etcdDaemonArguments,
  joinHost,
  leasedSubnet,
  restartEtcd,
  startEtcd,
  startEtcdDaemon,
} from './support/etcd-hosts.js';
import { Lab, labUnavailable, waitFor } from './support/lab.js';
import { COLLECT } from './support/many-leases.js';
import { ensurePackages } from './support/packages.js';
import { randomOf } from './support/random.js';

const STORM = 2_000;
const MAX_GROWTH = 0.01; // of resident memory in an hour, after the first ten minutes
const WARM_UP_MINUTES = 10;
const LEAST_MINUTES = 30; // less says nothing about memory

interface Sample {
  readonly atMs: number;
  readonly residentKb: number;
  readonly files: number;
  readonly threads: number;
}

function sample(pid: number): Sample {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return {
    atMs: Date.now(),
    residentKb: Number(/^VmRSS:\s+(\d+)/m.exec(status)![1]),
    files: readdirSync(`/proc/${pid}/fd`).length,
    threads: readdirSync(`/proc/${pid}/task`).length,
  };
}

/** Growth of resident memory in an hour by least squares, as a share of its mean. */
function growthAnHour(samples: readonly Sample[]): number {
  const mean = (of: (one: Sample) => number): number =>
    samples.reduce((sum, one) => sum + of(one), 0) / samples.length;
  const [x, y] = [mean(({ atMs }) => atMs), mean(({ residentKb }) => residentKb)];
  const covariance = mean(({ atMs, residentKb }) => (atMs - x) * (residentKb - y));
  const variance = mean(({ atMs }) => (atMs - x) ** 2);
  return variance === 0 ? 0 : ((covariance / variance) * 3_600_000) / y;
}

async function main(): Promise<number> {
  const why = labUnavailable();
  if (why !== false) throw new Error(why);
  ensurePackages(ETCD_PROGRAMS);
  const [minutes = 60, seed = Date.now() >>> 0] = process.argv.slice(2).map(Number);
  const random = randomOf(seed);
  console.log(`${minutes} minutes, seed ${seed}`);
  const lab = Lab.open('soak-');
  try {
    const etcd = await startEtcd(lab, {
      Network: '10.0.0.0/12',
      SubnetLen: 24,
      SubnetMax: '10.7.255.0',
      Backend: { Type: 'udp' },
    });
    const a = await joinHost(lab, 1);
    const bare = lab.addHost(2, { subnet: undefined });
    const words = [...COLLECT, ...etcdDaemonArguments(bare)];
    const daemon = await lab.spawnUntil(bare.ns, process.execPath, words, /ready after/);
    const b = { host: lab.connectContainer(bare, leasedSubnet(bare)) };
    const pid = daemon.child.pid!;
    const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
    // In transactions of 100; etcd takes 128 operations in one.
    const leases = async (operation: (key: string) => string): Promise<void> => {
      for (let i = 0; i < STORM; i += 100) {
        const lines = Array.from({ length: 100 }, (_, j) =>
          operation(`${ETCD_PREFIX}/subnets/10.${8 + ((i + j) >> 8)}.${(i + j) & 255}.0-24`),
        );
        const input = `\n${lines.join('\n')}\n\n\n`;
        await lab.run(etcd.ns, 'etcdctl', ['txn'], { input, env: { ETCDCTL_API: '3' } });
      }
    };
    const faults: Readonly<Record<string, () => Promise<unknown>>> = {
      'the other daemon is killed': async () => {
        await lab.end(a.daemon, 'SIGKILL');
        a.daemon = await startEtcdDaemon(lab, a.host);
      },
      'stopped for 2 s': async () => {
        process.kill(pid, 'SIGSTOP');
        await pause(2_000);
        process.kill(pid, 'SIGCONT');
      },
      'etcd is killed for 5 s': async () => {
        await lab.end(etcd.task, 'SIGKILL');
        await pause(5_000);
        await restartEtcd(lab, etcd);
      },
      'the uplink is down for 1 s': async () => {
        lab.ip(b.host.ns, 'link set eth0 down');
        await pause(1_000);
        lab.ip(b.host.ns, 'link set eth0 up');
      },
      'the device is deleted': async () => {
        lab.ip(b.host.ns, 'link delete flannel0');
        await pause(0);
      },
      'leases come and go': async () => {
        await leases((key) => `put ${key} '{"PublicIP":"172.20.9.9"}'`);
        await leases((key) => `del ${key}`);
      },
    };
    const samples: Sample[] = [];
    const reaches = async (): Promise<boolean> =>
      (await lab.run(a.host.containerNs, 'ping', ['-c1', '-W1', b.host.containerIp], { mustSucceed: false }))
        .code === 0;
    const server = lab.spawn(b.host.containerNs, 'iperf3', ['-s']);
    for (let minute = 0; minute < minutes; minute++) {
      const load = lab.spawn(a.host.containerNs, 'iperf3', [
        ...['-c', b.host.containerIp, '-b', '300M', '-t', '55', '--connect-timeout', '3000'],
      ]);
      await pause(5_000 + random() * 20_000);
      const names = Object.keys(faults);
      const name = names[Math.floor(random() * names.length)];
      await faults[name]();
      await waitFor(reaches, `packets to flow after: ${name}`, 30_000);
      await load.exited;
      daemon.child.kill('SIGUSR2');
      await pause(1_000);
      const now = sample(pid);
      samples.push(now);
      console.log(
        `${minute + 1}: ${name}; ${now.residentKb} KiB, ${now.files} files, ${now.threads} threads`,
      );
    }
    await lab.end(server);
    const steady = samples.slice(minutes > 2 * WARM_UP_MINUTES ? WARM_UP_MINUTES : 0);
    const growth = growthAnHour(steady);
    const isLong = steady.length >= LEAST_MINUTES;
    const [first, last] = [steady[0], steady.at(-1)!];
    const verdict = isLong ? '' : ' (too short to judge)';
    console.log(
      `memory grows by ${(growth * 100).toFixed(2)} % an hour over ${steady.length} minutes${verdict}`,
    );
    const isLeak = last.files > first.files + 2 || last.threads > first.threads;
    if (isLeak) console.log('descriptors or threads are left open');
    return isLeak || (isLong && growth > MAX_GROWTH) ? 1 : 0;
  } finally {
    await lab.close();
  }
}

process.exitCode = await main();
