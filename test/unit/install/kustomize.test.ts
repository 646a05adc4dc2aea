// The kustomize components that put twill into a kube-flannel that is there, built by kubectl over what such a one is.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { checkDaemonSet, daemonOf, type DaemonSet, theOne } from '../../support/daemon-set.js';
import { FORMERS, formerFlannel, putKustomization } from '../../support/former-flannel.js';
import { type KubeObject, parseObjects, schemaViolations } from '../../support/kube-objects.js';
import { needsTool, runTool } from '../../support/kube-tools.js';
import { folderOf } from '../../support/folder.js';

const ROOT = new URL('../../..', import.meta.url).pathname;
const KUBERNETES = join(ROOT, 'docs/install/kubernetes');
const skip = needsTool('kubectl');

const own = parseObjects(readFileSync(join(KUBERNETES, 'kube-twill.yml'), 'utf8'));

/** The objects that `kubectl apply -k` would apply. */
function build(folder: string, former: readonly KubeObject[], components: readonly string[]): KubeObject[] {
  putKustomization(folder, former, components);
  return parseObjects(runTool('kubectl', ['kustomize', folder]));
}

for (const [version, was] of Object.entries(FORMERS)) {
  t.test(`twill takes the place of flannel ${version}`, { skip }, (t) => {
    const objects = build(folderOf(t), formerFlannel(own, was), ['twill']);
    t.strictSame(schemaViolations(objects), []);
    checkDaemonSet(t, objects);
    const set = theOne<DaemonSet>(objects, 'DaemonSet');
    const { initContainers, containers } = set.spec.template.spec;
    const images = [...initContainers, ...containers].map(({ image }) => image);
    t.strictSame(
      new Set(images),
      new Set([daemonOf(theOne(own, 'DaemonSet')).image]),
      'each image is twill’s',
    );
    const daemon = daemonOf(set);
    t.strictSame(daemon.args, was.args, 'the flags stay');
    t.notMatch(daemon.resources, { limits: { memory: '50Mi' } });
    t.strictSame((daemon.env ?? []).map(({ name }) => name).sort(), [
      'EVENT_QUEUE_DEPTH',
      'FLANNELD_CONTROL_SOCKET',
      'FLANNELD_HEALTHZ_IP',
      'FLANNELD_HEALTHZ_PORT',
      'FLANNELD_TAKEOVER',
      'NODE_NAME',
      'POD_NAME',
      'POD_NAMESPACE',
    ]);
    // Config and rights are the operator's.
    for (const kind of ['ConfigMap', 'ClusterRole', 'ServiceAccount'])
      t.strictSame(theOne(objects, kind), theOne(own, kind));
    t.end();
  });
}

t.test('the component tun mounts what the udp backend opens', { skip }, (t) => {
  const objects = build(folderOf(t), formerFlannel(own, FORMERS['v0.28.9']), ['twill', 'tun']);
  t.strictSame(schemaViolations(objects), []);
  checkDaemonSet(t, objects);
  const set = theOne<DaemonSet>(objects, 'DaemonSet');
  const volume = (from: DaemonSet): unknown =>
    from.spec.template.spec.volumes.find(({ name }) => name === 'dev-net');
  t.strictSame(volume(set), volume(theOne(own, 'DaemonSet')));
  t.ok(daemonOf(set).volumeMounts?.some(({ mountPath }) => mountPath === '/dev/net'));
  t.end();
});

t.test('the tag in the component is the one that is built', (t) => {
  const component = readFileSync(join(KUBERNETES, 'kustomize/twill/kustomization.yaml'), 'utf8');
  const tags = [...component.matchAll(/newName: (\S+), newTag: (\S+) }/g)].map(
    ([, name, tag]) => `${name}:${tag}`,
  );
  t.strictSame(new Set(tags), new Set([daemonOf(theOne(own, 'DaemonSet')).image]));
  t.end();
});
