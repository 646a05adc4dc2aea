// The check of `twill doctor` for a daemon that learns from the Kubernetes API.

import type { StatusDocument } from '../../ops/status.js';
import { type Finding, fail, ok, warn } from './finding.js';

const CHECK = 'kubernetes';

/** What the daemon says of its way to the API server; nothing for another store. */
export function checkApiServer(
  store: StatusDocument['store'] | undefined,
  isKubeWanted: boolean,
): readonly Finding[] {
  if (store === undefined) {
    if (!isKubeWanted) return [];
    return [warn(CHECK, 'no daemon can be asked about the API server', 'start twilld, or see its log')];
  }
  if (store.kind !== 'kube') return [];
  const { server, node, podCidr, watchEstablished, leases, badKeys } = store;
  if (podCidr === null) {
    const what = node === '' ? 'the name of this node is not known yet' : `node ${node} has no subnet yet`;
    return [fail(CHECK, `${server}: ${what}`, 'see `twill status`; kubectl get node -o yaml')];
  }
  const found = watchEstablished
    ? ok(CHECK, `${server}: node ${node} has ${podCidr}, ${leases} members`)
    : warn(
        CHECK,
        `${server}: nodes are not watched at this moment`,
        'can this host reach it? see `twill status`',
      );
  if (badKeys === 0) return [found];
  const bad = `${badKeys} nodes cannot be understood`;
  return [found, warn(CHECK, bad, 'see `twill leases`; mend their annotations')];
}
