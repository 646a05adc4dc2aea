// The Helm chart, rendered by helm: by default kube-twill.yml, with each value what flannel's chart makes of it.

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { parse } from 'yaml';
import {
  checkDaemonSet,
  type ConfigMap,
  type Container,
  daemonOf,
  type DaemonSet,
  theOne,
} from '../../support/daemon-set.js';
import { type KubeObject, parseObjects, schemaViolations } from '../../support/kube-objects.js';
import { parseNetConfig } from '../../../src/store/kube/net-config-file.js';
import { needsTool, runTool } from '../../support/kube-tools.js';
import { folderOf } from '../../support/folder.js';

const ROOT = new URL('../../..', import.meta.url).pathname;
const KUBERNETES = join(ROOT, 'docs/install/kubernetes');
const CHART = join(KUBERNETES, 'chart');
const skip = needsTool('helm');

/** The objects that the chart makes of values, as `--set` takes them. */
function render(...values: readonly string[]): KubeObject[] {
  const sets = values.flatMap((value) => ['--set', value]);
  return parseObjects(
    runTool('helm', ['template', 'flannel', CHART, '--namespace', 'kube-flannel', ...sets]),
  );
}

const names = (containers: readonly Container[]): string[] => containers.map(({ name }) => name);
const read = (name: string): KubeObject[] => parseObjects(readFileSync(join(KUBERNETES, name), 'utf8'));

/** By kind and name; the JSON in a ConfigMap is parsed, for its layout is no difference. */
function comparable(objects: readonly KubeObject[]): ReadonlyMap<string, unknown> {
  return new Map(
    objects.map((object) => {
      const { data } = object as Partial<ConfigMap>;
      const entries = Object.entries(data ?? {}).map(([key, text]) => [key, JSON.parse(text) as unknown]);
      const shown = data === undefined ? object : { ...object, data: Object.fromEntries(entries) as unknown };
      return [`${object.kind} ${object.metadata.name}`, shown];
    }),
  );
}

t.test('the version of the chart and its image is that of the package', (t) => {
  const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string };
  t.match(parse(readFileSync(join(CHART, 'Chart.yaml'), 'utf8')), { version, appVersion: version });
  t.match(parse(readFileSync(join(CHART, 'values.yaml'), 'utf8')), {
    flannel: { image: { repository: 'localhost/twill', tag: version } },
  });
  t.end();
});

t.test('without values the chart is kube-twill.yml', { skip }, (t) => {
  const made = comparable(render());
  const { spec } = made.get('DaemonSet kube-flannel-ds') as DaemonSet;
  // The one of flannel's chart, which kube-flannel.yml does not share; neither can be changed where it is in use.
  t.strictSame(spec.selector, { matchLabels: { app: 'flannel' } });
  const expected = new Map(comparable(read('kube-twill.yml')));
  t.ok(expected.delete('Namespace kube-flannel'), 'helm is given the namespace');
  const set = expected.get('DaemonSet kube-flannel-ds') as DaemonSet;
  expected.set('DaemonSet kube-flannel-ds', { ...set, spec: { ...set.spec, selector: spec.selector } });
  t.strictSame(made, expected);
  t.end();
});

t.test('flannel.events adds what events-rbac.yml is', { skip }, (t) => {
  const made = new Map(comparable(render('flannel.events=true')));
  for (const name of comparable(render()).keys()) t.ok(made.delete(name), name);
  t.strictSame(made, comparable(read('events-rbac.yml')));
  t.end();
});

/** The values as `--set` takes them, and what then is in net-conf.json. */
const CONFIGS: readonly [values: readonly string[], config: object][] = [
  [
    [],
    { Network: '10.244.0.0/16', EnableNFTables: false, EnableIPv6: undefined, Backend: { Type: 'vxlan' } },
  ],
  [
    ['podCidr=10.42.0.0/16', 'flannel.enableNFTables=true'],
    { Network: '10.42.0.0/16', EnableNFTables: true },
  ],
  [
    ['podCidrv6=fd00:244::/48'],
    { Network: '10.244.0.0/16', EnableIPv4: undefined, EnableIPv6: true, IPv6Network: 'fd00:244::/48' },
  ],
  [
    ['podCidr=', 'podCidrv6=fd00:244::/48'],
    { Network: undefined, EnableIPv4: false, EnableIPv6: true, IPv6Network: 'fd00:244::/48' },
  ],
  [
    ['mtu=1400', 'vni=7', 'GBP=true', 'directRouting=true', 'backendPort=4789'].map(
      (value) => `flannel.${value}`,
    ),
    { Backend: { Type: 'vxlan', MTU: 1400, VNI: 7, GBP: true, DirectRouting: true, Port: 4789 } },
  ],
  [['flannel.backend=udp', 'flannel.backendPort=9000'], { Backend: { Type: 'udp', Port: 9000 } }],
  [['flannel.backend=udp', 'flannel.vni=7', 'flannel.mtu=1400'], { Backend: { Type: 'udp' } }],
  [['flannel.backend=host-gw', 'flannel.backendPort=9000'], { Backend: { Type: 'host-gw' } }],
];

t.test('the network config is what the values say', { skip }, (t) => {
  for (const [values, expected] of CONFIGS) {
    const objects = render(...values);
    checkDaemonSet(t, objects);
    const config = JSON.parse(theOne<ConfigMap>(objects, 'ConfigMap').data['net-conf.json']) as {
      Backend: object;
    };
    t.match(config, expected, values.join(' '));
    t.doesNotThrow(() => parseNetConfig(JSON.stringify(config), 'the chart'));
    const { Backend } = expected as { Backend?: object };
    if (Backend !== undefined) t.strictSame(config.Backend, Backend, 'and no other key');
  }
  t.end();
});

t.test('the DaemonSet is what the values say', { skip }, (t) => {
  const all = [
    'global.imagePullSecrets[0].name=mine',
    'flannel.image.repository=registry.example/twill',
    'flannel.image.tag=1.2',
    'flannel.cniBinDir=/var/lib/cni/bin',
    'flannel.cniConfDir=/etc/kubernetes/cni/net.d',
    'flannel.args={--ip-masq,--kube-subnet-mgr,--iface=eth1}',
    'flannel.resources.limits.memory=512Mi',
    'flannel.healthz.port=9180',
    'flannel.healthz.readinessProbe.periodSeconds=3',
    'flannel.tolerations=null',
    'flannel.nodeSelector.pool=a',
  ];
  const objects = render(...all);
  t.strictSame(schemaViolations(objects), []);
  checkDaemonSet(t, objects);
  const set = theOne<DaemonSet>(objects, 'DaemonSet');
  const pod = set.spec.template.spec;
  t.match(pod, { imagePullSecrets: [{ name: 'mine' }], nodeSelector: { pool: 'a' } });
  t.equal(pod.tolerations, undefined);
  const images = [...pod.initContainers, ...pod.containers].map(({ image }) => image);
  t.strictSame(
    new Set(images),
    new Set(['registry.example/twill:1.2']),
    'the tag is a text, however it looks',
  );
  const folders = new Map(pod.volumes.map(({ name, hostPath }) => [name, hostPath?.path]));
  t.equal(folders.get('cni-plugin'), '/var/lib/cni/bin');
  t.equal(folders.get('cni'), '/etc/kubernetes/cni/net.d');
  t.match(daemonOf(set), {
    args: ['--ip-masq', '--kube-subnet-mgr', '--iface=eth1', '--healthz-port=9180'],
    resources: { requests: { cpu: '100m', memory: '50Mi' }, limits: { memory: '512Mi' } },
    readinessProbe: { initialDelaySeconds: 5, periodSeconds: 3 },
  });
  t.end();
});

t.test('what the values switch off is not there', { skip }, (t) => {
  const objects = render('flannel.healthz.port=0', 'flannel.skipCNIConfigInstallation=true');
  checkDaemonSet(t, objects);
  const set = theOne<DaemonSet>(objects, 'DaemonSet');
  t.strictSame(daemonOf(set).args, ['--ip-masq', '--kube-subnet-mgr']);
  t.strictSame(names(set.spec.template.spec.initContainers), ['install-cni-plugin']);
  t.end();
});

t.test('network policies are a second container, with the rights it needs', { skip }, (t) => {
  const objects = render('netpol.enabled=true');
  t.strictSame(schemaViolations(objects), []);
  checkDaemonSet(t, objects);
  const { containers } = theOne<DaemonSet>(objects, 'DaemonSet').spec.template.spec;
  t.strictSame(names(containers), ['kube-flannel', 'kube-network-policies']);
  const { rules } = theOne<KubeObject & { rules: { resources: string[] }[] }>(objects, 'ClusterRole');
  t.ok(rules.some(({ resources }) => resources.includes('networkpolicies')));
  t.end();
});

t.test(
  'values of another image for the plugin, and a tag in a file that looks like a number',
  { skip },
  (t) => {
    const file = join(folderOf(t), 'values.yml');
    writeFileSync(
      file,
      `flannel: { image: { tag: '2' }, flannel_cni: { image: { repository: a/b, tag: '1.10' } } }\n`,
    );
    const text = runTool('helm', ['template', 'flannel', CHART, '--values', file]);
    const { spec } = theOne<DaemonSet>(parseObjects(text), 'DaemonSet').spec.template;
    t.strictSame(
      [...spec.initContainers, ...spec.containers].map(({ image }) => image),
      ['a/b:1.10', 'localhost/twill:2', 'localhost/twill:2'],
    );
    t.end();
  },
);

function refuses(t: Test, value: string, said: string | RegExp): void {
  t.throws(
    () => render(value),
    { message: typeof said === 'string' ? new RegExp(escape(said)) : said },
    value,
  );
}

const escape = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');

t.test('values that cannot be had are refused by name', { skip }, (t) => {
  refuses(t, 'podCidrv6=10.42.0.0/16', 'podCidrv6 is "10.42.0.0/16": expected an IPv6 network, such as "fd0');
  refuses(
    t,
    'podCidr=fd00::/48',
    'podCidr is "fd00::/48": expected an IPv4 network, that of IPv6 is podCidrv6',
  );
  refuses(t, 'podCidr=', 'podCidr is empty: expected the pod network of the cluster');
  refuses(t, 'flannel.backend=wireguard', 'flannel.backend is "wireguard": expected vxlan, host-gw or udp');
  const twice = 'flannel.args has --healthz-port=9: expected flannel.healthz.port instead';
  refuses(t, 'flannel.args={--kube-subnet-mgr,--healthz-port=9}', twice);
  refuses(t, 'flannel.psk=x', `additional properties 'psk' not allowed`);
  refuses(t, 'flannel.vni=x', /\/flannel\/vni.*got string, want integer/);
  refuses(t, 'netpol.enable=true', `additional properties 'enable' not allowed`);
  t.end();
});
