// The resource that a path of the API stands for, as a rule of RBAC names it: an operator who reads "cannot patch
// nodes/status" knows what to put into the ClusterRole. Pure.

const CORE = /^\/api\/[^/]+\/(.*)$/;
const GROUP = /^\/apis\/([^/]+)\/[^/]+\/(.*)$/;

/** Such as "nodes", "nodes/status", "pods", "events.events.k8s.io"; a path that is no resource's stays as it is. */
export function resourceOf(path: string): string {
  const [plain] = path.split('?');
  const core = CORE.exec(plain)?.[1];
  if (core !== undefined) return nameOf(core);
  const [, group, rest] = GROUP.exec(plain) ?? [];
  if (group === undefined || rest === undefined) return plain;
  const [resource, subresource] = nameOf(rest).split('/');
  return `${resource}.${group}${subresource === undefined ? '' : `/${subresource}`}`;
}

/** [namespaces/NS/]RESOURCE[/NAME[/SUBRESOURCE]]; a namespace is a resource, too. */
function nameOf(rest: string): string {
  const parts = rest.split('/').filter((part) => part !== '');
  const isInside = parts[0] === 'namespaces' && parts.length > 2 && !/^(?:status|finalize)$/.test(parts[2]);
  const [resource = '', , subresource] = isInside ? parts.slice(2) : parts;
  return subresource === undefined ? resource : `${resource}/${subresource}`;
}
