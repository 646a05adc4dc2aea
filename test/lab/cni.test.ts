// Pods made by the plugin with Debian's real bridge, host-local and portmap, on two hosts, across the overlay. One of
// them by the npm package's program, the others by the file that a node gets.

import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { CNI_PLUGIN } from '../support/cni-plugin.js';
import { callCni, CNI_NETWORK, CNI_PLUGINS, cniConfig, type CniPod } from '../support/cni-pods.js';
import { type Host, Lab, labUnavailable, PROJECT_ROOT } from '../support/lab.js';
import { startDaemon, writeTable } from '../support/twill-hosts.js';

interface Pod extends CniPod {
  ip: string;
  result: Result;
}

interface Result {
  readonly ips: readonly { readonly address: string; readonly gateway: string }[];
}

const NONE: Result = { ips: [] };

t.test('two hosts, pods by the plugin', { skip: labUnavailable() }, async (t) => {
  const lab = Lab.open('cni-');
  t.teardown(() => lab.close());
  const hosts = [1, 2].map((index) => lab.addHost(index, { subnet: undefined }));
  const file = join(lab.dir, 'static.json');
  writeTable(file, {
    config: { Network: '10.5.0.0/16', SubnetLen: 24, Backend: { Type: 'udp' } },
    leases: hosts.map((host) => ({ subnet: `10.5.${host.index}.0/24`, publicIP: host.underlayIp })),
  });
  for (const host of hosts) {
    lab.ip(host.ns, 'link delete cni0'); // the bridge plugin makes its own
    await startDaemon(lab, host, file);
  }

  const call = (pod: Pod, command: string, program: readonly string[], config: object) =>
    callCni(lab, pod, command, program, config);
  const ours = [CNI_PLUGIN];
  const byNode = [process.execPath, join(PROJECT_ROOT, 'dist/cni/main.js')];
  const addPod = async (host: Host, id: string, program = ours): Promise<Pod> => {
    const pod: Pod = { host, id, ns: lab.addNamespace(id), ip: '', result: NONE };
    const { code, stdout } = await call(pod, 'ADD', program, cniConfig(host));
    t.equal(code, 0, `${id} is added: ${stdout}`);
    pod.result = JSON.parse(stdout) as Result;
    pod.ip = pod.result.ips[0].address.split('/')[0];
    return pod;
  };
  const ping = async (from: Pod, ip: string): Promise<number> =>
    (await lab.run(from.ns, 'ping', ['-c1', '-W2', ip], { mustSucceed: false })).code;

  const one = await addPod(hosts[0], 'pod1');
  const two = await addPod(hosts[1], 'pod2');
  const neighbour = await addPod(hosts[0], 'pod3', byNode);

  await t.test('they talk', async (t) => {
    t.match(one.ip, /^10\.5\.1\./);
    t.match(two.ip, /^10\.5\.2\./);
    t.equal(await ping(one, two.ip), 0, 'across the hosts');
    t.equal(await ping(two, neighbour.ip), 0, 'and back');
    t.equal(await ping(one, neighbour.ip), 0, 'on one host');
    t.match(lab.ip(one.ns, 'link show eth0'), /mtu 1472/, 'the MTU of the overlay');
    t.match(lab.ip(hosts[0].ns, 'address show cni0'), /inet 10\.5\.1\.1\/24/, 'the bridge is the gateway');
    t.match(lab.ip(one.ns, 'route show'), /10\.5\.0\.0\/16 via 10\.5\.1\.1/);
  });

  await t.test('CHECK of a pod that is well, and of one that is not', async (t) => {
    for (const version of ['0.4.0', '1.0.0']) {
      const pod: Pod = {
        host: hosts[0],
        id: 'checked',
        ns: lab.addNamespace(`k${version}`),
        ip: '',
        result: NONE,
      };
      const config = cniConfig(pod.host, version);
      const added = await call(pod, 'ADD', ours, config);
      t.equal(added.code, 0, added.stdout);
      const prevResult: unknown = JSON.parse(added.stdout);
      t.match(prevResult, { routes: [{ dst: '10.5.0.0/16' }, {}] });
      const checked = () => call(pod, 'CHECK', ours, { ...config, prevResult });
      const well = await checked();
      t.equal(well.code, 0, `${version}: ${well.stdout}`);
      lab.ip(pod.ns, 'route delete 10.5.0.0/16');
      const broken = await checked();
      t.equal(broken.code, 1, 'a route is gone');
      t.match(broken.stdout, /10\.5\.0\.0/);
      t.equal((await call(pod, 'DEL', ours, config)).code, 0);
    }
    // Added as 0.3.1, checked by a runtime that was told 1.0.0 since.
    const { ips, ...rest } = one.result;
    const prevResult = {
      ...rest,
      cniVersion: '1.0.0',
      ips: ips.map(({ address, gateway }) => ({ address, gateway, interface: 2 })),
    };
    const later = await call(one, 'CHECK', ours, { ...cniConfig(hosts[0], '1.0.0'), prevResult });
    t.equal(later.code, 0, later.stdout);
  });

  await t.test('portmap after it in the chain', async (t) => {
    const added = await call(two, 'CHECK', ours, cniConfig(hosts[1], '0.4.0'));
    t.match(
      JSON.parse(added.stdout),
      { code: /\d/, msg: /failed to delegate check/ },
      'CHECK wants a prevResult',
    );
    const prevResult = {
      cniVersion: '0.3.1',
      interfaces: [{ name: 'eth0', sandbox: `/run/netns/${two.ns}` }],
      ips: [{ version: '4', interface: 0, address: `${two.ip}/24`, gateway: '10.5.2.1' }],
    };
    const portmap = {
      cniVersion: '0.3.1',
      name: CNI_NETWORK,
      type: 'portmap',
      capabilities: { portMappings: true },
      runtimeConfig: { portMappings: [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }] },
      prevResult,
    };
    const mapped = await call(two, 'ADD', [join(CNI_PLUGINS, 'portmap')], portmap);
    t.equal(mapped.code, 0, mapped.stdout);
    const server = `require('net').createServer((s) => s.end('hello')).listen(80, () => console.log('listening'))`;
    await lab.spawnUntil(two.ns, process.execPath, ['-e', server], /listening/);
    const client = `require('net').connect(8080, '${hosts[1].underlayIp}').on('data', (d) => console.log(String(d)))`;
    const { stdout } = await lab.run(one.ns, process.execPath, ['-e', client]);
    t.equal(stdout.trim(), 'hello', 'from a pod on the other host to the mapped port');
    t.equal((await call(two, 'DEL', [join(CNI_PLUGINS, 'portmap')], portmap)).code, 0);
  });

  let burst: Pod[] = [];
  await t.test('many pods at once', async (t) => {
    burst = await Promise.all(Array.from({ length: 12 }, (_, i) => addPod(hosts[1], `burst${i}`)));
    t.equal(new Set([two, ...burst].map(({ ip }) => ip)).size, 13, 'each with an address of its own');
    t.equal(await ping(burst[11], one.ip), 0);
  });

  await t.test('removed without a trace', async (t) => {
    t.equal((await call(one, 'DEL', byNode, cniConfig(one.host))).code, 0, 'by either program');
    for (const pod of [one, two, neighbour, ...burst]) {
      t.equal((await call(pod, 'DEL', ours, cniConfig(pod.host))).code, 0);
      t.equal((await call(pod, 'DEL', ours, cniConfig(pod.host))).code, 0, 'twice');
    }
    for (const host of hosts) {
      t.notMatch(lab.ip(host.ns, 'link show'), /veth/, 'no veth');
      t.same(readdirSync(join(host.dir, 'flannel')), [], 'no state file');
      const kept = readdirSync(join(host.dir, 'networks', CNI_NETWORK));
      t.same(
        kept.filter((name) => name.startsWith('10.')),
        [],
        'no address',
      );
    }
    t.notMatch(lab.ip(one.ns, 'link show'), /eth0/);
  });

  await t.test('a host whose daemon never ran', async (t) => {
    const pod: Pod = { host: hosts[0], id: 'pod9', ns: lab.addNamespace('pod9'), ip: '', result: NONE };
    const config = { ...cniConfig(hosts[0]), subnetFile: '/none/subnet.env' };
    const { code, stdout } = await call(pod, 'ADD', ours, config);
    t.equal(code, 1);
    t.match(JSON.parse(stdout), { code: 5, msg: /subnet\.env/ });
    t.notOk(existsSync(join(hosts[0].dir, 'flannel', 'pod9')), 'nothing is half made');
  });

  await t.test('a root that holds the plugin and nothing else', async (t) => {
    const root = join(lab.dir, 'bare');
    mkdirSync(root);
    copyFileSync(CNI_PLUGIN, join(root, 'flannel'));
    const inside = async (command: string): Promise<{ code: number; stdout: string }> =>
      lab.run(hosts[0].ns, 'chroot', [root, '/flannel'], {
        mustSucceed: false,
        input: JSON.stringify({ cniVersion: '1.0.0', name: CNI_NETWORK, type: 'flannel' }),
        env: {
          CNI_COMMAND: command,
          CNI_CONTAINERID: 'pod9',
          CNI_NETNS: '/n',
          CNI_IFNAME: 'eth0',
          CNI_PATH: '/p',
        },
      });
    t.match(JSON.parse((await inside('VERSION')).stdout), { cniVersion: '1.1.0' });
    t.match(JSON.parse((await inside('ADD')).stdout), {
      cniVersion: '1.0.0',
      code: 5,
      msg: /open \/run\/flannel\/subnet\.env: no such file or directory/,
    });
    t.match(await inside('DEL'), { code: 0, stdout: '' });
  });
  t.match(readFileSync(join(hosts[0].dir, 'subnet.env'), 'utf8'), /FLANNEL_SUBNET=10\.5\.1\.1\/24/);
});
