import t from 'tap';
import { resourceOf } from '../../../../../src/store/kube/api/resource.js';

t.test('resourceOf() names what a rule of RBAC has to allow', (t) => {
  const cases: [path: string, expected: string][] = [
    ['/api/v1/nodes', 'nodes'],
    ['/api/v1/nodes?limit=500', 'nodes'],
    ['/api/v1/nodes/n1', 'nodes'],
    ['/api/v1/nodes/n1/status', 'nodes/status'],
    ['/api/v1/namespaces', 'namespaces'],
    ['/api/v1/namespaces/kube-system', 'namespaces'],
    ['/api/v1/namespaces/kube-system/status', 'namespaces/status'],
    ['/api/v1/namespaces/kube-flannel/pods', 'pods'],
    ['/api/v1/namespaces/kube-flannel/pods/p', 'pods'],
    ['/api/v1/namespaces/kube-flannel/pods/p/log', 'pods/log'],
    ['/apis/events.k8s.io/v1/namespaces/default/events', 'events.events.k8s.io'],
    ['/apis/apps/v1/namespaces/x/daemonsets/y/status', 'daemonsets.apps/status'],
    ['/version', '/version'],
  ];
  for (const [path, expected] of cases) t.equal(resourceOf(path), expected, path);
  t.end();
});
