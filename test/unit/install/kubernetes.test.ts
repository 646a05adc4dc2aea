// What is applied to a cluster: kube-twill.yml and events-rbac.yml. That a real API server takes them is for test/kube.

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { checkDaemonSet, daemonOf, type DaemonSet, theOne } from '../../support/daemon-set.js';
import { FLANNEL_RULES } from '../../support/kube-cluster/accounts.js';
import { type KubeObject, parseObjects, schemaViolations } from '../../support/kube-objects.js';

const ROOT = new URL('../../..', import.meta.url).pathname;
const INSTALL = join(ROOT, 'docs/install');
const read = (name: string): string => readFileSync(join(INSTALL, name), 'utf8');

const manifest = parseObjects(read('kubernetes/kube-twill.yml'));
const events = parseObjects(read('kubernetes/events-rbac.yml'));

interface Role extends KubeObject {
  readonly rules: readonly { apiGroups: string[]; resources: string[]; verbs: string[] }[];
}

/** "verb resource" of each right that a role gives, of the core group. */
function rightsOf({ rules }: Role): string[] {
  return rules.flatMap(({ apiGroups, resources, verbs }) => {
    if (apiGroups.join() !== '') throw new Error(`the API group ${apiGroups.join()}`);
    return resources.flatMap((resource) => verbs.map((verb) => `${verb} ${resource}`));
  });
}

t.test('the manifests are as the published schema of the API has them', (t) => {
  t.strictSame(schemaViolations([...manifest, ...events]), []);
  t.end();
});

t.test('the check against the schema finds what is unknown, missing or of another type', (t) => {
  const cases: readonly [from: string, to: string, said: RegExp][] = [
    ['hostNetwork: true', 'hostnetwork: true', /hostnetwork.* does not exist in type 'PodSpec'/],
    ['periodSeconds: 30', "periodSeconds: '30'", /^"periodSeconds": "30".* type 'string' is not assignable/i],
    ['    fieldPath: metadata.name\n', '    path: x\n', /does not exist in type 'ObjectFieldSelector'/],
    [
      '  selector:\n    matchLabels:\n      app: flannel\n      k8s-app: flannel\n',
      '',
      /'selector' is missing/,
    ],
    ['kind: DaemonSet', 'kind: DaemonSets', /"apps\/v1 DaemonSets"/],
  ];
  const text = read('kubernetes/kube-twill.yml');
  for (const [from, to, said] of cases) {
    t.ok(text.includes(from), from);
    const found = schemaViolations(parseObjects(text.replace(from, to)));
    t.equal(found.length, 1, from);
    t.match(found[0], said);
  }
  t.end();
});

t.test('kube-twill.yml is applied in the place of kube-flannel', (t) => {
  // kubectl replaces what has these names, and merges containers by theirs; the selector can never be changed.
  t.strictSame(
    manifest.map(({ kind, metadata: { namespace = '', name } }) => `${kind} ${namespace}/${name}`),
    [
      'Namespace /kube-flannel',
      'ServiceAccount kube-flannel/flannel',
      'ClusterRole /flannel',
      'ClusterRoleBinding /flannel',
      'ConfigMap kube-flannel/kube-flannel-cfg',
      'DaemonSet kube-flannel/kube-flannel-ds',
    ],
  );
  const set = theOne<DaemonSet>(manifest, 'DaemonSet');
  t.strictSame(set.spec.selector.matchLabels, { app: 'flannel', 'k8s-app': 'flannel' });
  const { initContainers, containers } = set.spec.template.spec;
  t.strictSame(
    [...initContainers, ...containers].map(({ name }) => name),
    ['install-cni-plugin', 'install-cni', 'kube-flannel'],
  );
  t.end();
});

t.test('kube-twill.yml gives the daemon what it needs, and no more', (t) => {
  checkDaemonSet(t, manifest);
  const set = theOne<DaemonSet>(manifest, 'DaemonSet');
  t.strictSame(set.spec.updateStrategy, { type: 'RollingUpdate', rollingUpdate: { maxUnavailable: 1 } });
  const pod = set.spec.template.spec;
  t.match(pod, { hostNetwork: true, priorityClassName: 'system-node-critical' });
  const daemon = daemonOf(set);
  t.strictSame(daemon.securityContext, {
    privileged: false,
    allowPrivilegeEscalation: false,
    capabilities: { drop: ['ALL'], add: ['NET_ADMIN', 'NET_RAW', 'BPF'] },
  });
  t.strictSame(
    (daemon.env ?? []).map(({ name }) => name),
    [
      ...['POD_NAME', 'POD_NAMESPACE', 'NODE_NAME'],
      ...['FLANNELD_HEALTHZ_IP', 'FLANNELD_TAKEOVER', 'FLANNELD_CONTROL_SOCKET'],
    ],
  );
  const paths = new Map(pod.volumes.map(({ name, hostPath }) => [name, hostPath?.path]));
  const mounts = (daemon.volumeMounts ?? []).map(({ name, mountPath }) => [mountPath, paths.get(name)]);
  t.strictSame(
    new Map(mounts as [string, string | undefined][]),
    new Map([
      ['/run/flannel', '/run/flannel'],
      ['/etc/kube-flannel', undefined],
      ['/run/xtables.lock', '/run/xtables.lock'],
      ['/dev/net', '/dev/net'],
      ['/sys/fs/bpf', '/sys/fs/bpf'],
    ]),
  );
  t.end();
});

t.test('the rights are those of kube-flannel, and one Role more for who wants events', (t) => {
  t.strictSame(rightsOf(theOne(manifest, 'ClusterRole')), [
    'get pods',
    'get nodes',
    'list nodes',
    'watch nodes',
    'patch nodes/status',
  ]);
  t.strictSame(rightsOf(theOne(events, 'Role')), ['create events']);
  const account = theOne(manifest, 'ServiceAccount').metadata;
  for (const binding of [theOne(manifest, 'ClusterRoleBinding'), theOne(events, 'RoleBinding')]) {
    const { subjects, roleRef } = binding as KubeObject & { subjects: object[]; roleRef: { name: string } };
    t.strictSame(subjects, [{ kind: 'ServiceAccount', name: account.name, namespace: account.namespace }]);
    t.equal(roleRef.name, binding.metadata.name);
  }
  // A Node is in no namespace: its Events are in this one.
  t.strictSame(new Set(events.map(({ metadata }) => metadata.namespace)), new Set(['default']));
  t.end();
});

t.test('the tests against a real API server run with the rights of the manifest', (t) => {
  t.strictSame(FLANNEL_RULES, theOne<Role>(manifest, 'ClusterRole').rules);
  t.end();
});

t.test('docs/kubernetes.md has the rights that the manifests give', (t) => {
  const page = readFileSync(join(ROOT, 'docs/kubernetes.md'), 'utf8');
  const table = /<!-- rights -->([\s\S]*?)<!-- end -->/.exec(page)?.[1] ?? '';
  const quoted = (cell: string): string[] => [...cell.matchAll(/`([^`]+)`/g)].map(([, text]) => text);
  const told = table.split('\n').flatMap((row) => {
    const [, verbs = '', resources = ''] = row.split('|');
    return quoted(resources).flatMap((resource) => quoted(verbs).map((verb) => `${verb} ${resource}`));
  });
  const given = [...rightsOf(theOne(manifest, 'ClusterRole')), ...rightsOf(theOne(events, 'Role'))];
  t.strictSame(told.sort(), given.sort());
  t.end();
});

t.test('the image: manifests name the tag that is built, and it has the paths that they run', (t) => {
  const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string };
  const { initContainers, containers } = theOne<DaemonSet>(manifest, 'DaemonSet').spec.template.spec;
  const all = [...initContainers, ...containers];
  t.strictSame(new Set(all.map(({ image }) => image)), new Set([`localhost/twill:${version}`]));
  const recipe = read('build-image.sh');
  t.match(recipe, /localhost\/twill:\$version/);
  const text = all.flatMap(({ command = [], args = [] }) => [...command, ...args]).join(' ');
  const programs = new Set(text.match(/(?<=^| )\/(?:opt\/bin\/[\w-]+|flannel)(?= |$)/g));
  t.strictSame(programs, new Set(['/flannel', '/opt/bin/install-conf', '/opt/bin/flanneld']));
  for (const path of programs) t.ok(recipe.includes(`"$root${path}"`), `${path} is put into the image`);
  const holder = '/usr/bin/twill-holder --stay /usr/bin/';
  t.ok(recipe.includes(`exec ${holder}flanneld "$@"`), 'a pod runs the daemon below the holder');
  const words = /--entrypoint '(.*?)'/.exec(recipe)![1];
  t.equal((JSON.parse(words) as string[]).join(' '), `${holder}twilld`, 'and so does the image');
  t.end();
});

t.test('no file beside the manifests is one that kubectl would take for one', (t) => {
  const names = readdirSync(join(INSTALL, 'kubernetes')).filter((name) => /\.(?:ya?ml|json)$/.test(name));
  t.strictSame(names.sort(), ['events-rbac.yml', 'kube-twill.yml']);
  t.end();
});
