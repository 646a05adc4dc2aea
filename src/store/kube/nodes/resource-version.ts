// The order of versions of objects ("resourceVersion"). Pure.
//
// A version is one number for all objects of a kind, the revision of etcd, and grows with every write. The API calls it
// opaque all the same, and a server that is not Kubernetes' own may use other texts: of these only equality can be told
// (kubernetes.io/docs/reference/using-api/api-concepts, "Resource versions").

const NUMBER = /^(?:0|[1-9]\d*)$/;

/**
 * Negative, 0 or positive, as `a` is older than `b`, the same or later; undefined when that cannot be told. Exact for
 * numbers of any size: without leading zeros, the longer of two is the greater.
 */
export function compareVersions(a: string, b: string): number | undefined {
  if (a === b) return 0;
  if (!NUMBER.test(a) || !NUMBER.test(b)) return undefined;
  if (a.length !== b.length) return a.length - b.length;
  return a < b ? -1 : 1;
}

/** Whether `a` is known to be later than `b`. */
export function isLater(a: string, b: string): boolean {
  const order = compareVersions(a, b);
  return order !== undefined && order > 0;
}
