// Finds FLANNELD_* variables that belong to no flag. Pure.
//
// flanneld ignores such variables, and goes on with a default that somebody meant to change.

const PREFIX = 'FLANNELD_';

/** Flags that count on the command line only: images use FLANNELD_VERSION as a label of what they contain. */
const WITHOUT_MEANING = [`${PREFIX}VERSION`, `${PREFIX}HELP`];

// Variables that Kubernetes and Docker set in containers beside a Service, or a linked container, whose name is
// "flanneld" or begins with "flanneld-". A flag may end in PORT, too, but has no URL as its value.
const SERVICE_LINK = /_SERVICE_HOST$|_SERVICE_PORT(_\w+)?$|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$/;
const LINK_URL = /^(tcp|udp|sctp):\/\//;

/** Whether Kubernetes put it there: a Service "flanneld-metrics" has the variable of the flag --metrics-port. */
export function isServiceLink(name: string, value: string): boolean {
  return name.endsWith('_PORT') && LINK_URL.test(value);
}

/** A sentence for each variable in `env` that is set, begins with FLANNELD_ and is not in `known`; by name. */
export function misspelt(
  env: Readonly<Record<string, string | undefined>>,
  known: readonly string[],
): readonly string[] {
  return Object.keys(env)
    .filter((name) => name.toUpperCase().startsWith(PREFIX) && (env[name] ?? '') !== '')
    .filter((name) => !known.includes(name) && !WITHOUT_MEANING.includes(name))
    .filter((name) => !SERVICE_LINK.test(name) && !isServiceLink(name, env[name]!))
    .sort()
    .map((name) => {
      const meant = nearest(name.toUpperCase(), known);
      const hint = meant === undefined ? '--help lists all flags' : `did you mean ${meant}?`;
      return `Unknown variable ${name.replace(/[^\w.-]/g, '?')}: ${hint}`;
    });
}

/** The candidate with the fewest edits, if they are at most half of what follows the prefix; the first of equals. */
function nearest(name: string, candidates: readonly string[]): string | undefined {
  let best: string | undefined;
  let fewest = Infinity;
  for (const candidate of candidates) {
    const edits = countEdits(name, candidate);
    if (edits < fewest && edits <= (Math.max(name.length, candidate.length) - PREFIX.length) / 2) {
      best = candidate;
      fewest = edits;
    }
  }
  return best;
}

/** Letters inserted, left out, replaced or swapped with their neighbour (optimal string alignment). */
function countEdits(a: string, b: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const isSame = a[i - 1] === b[j - 1];
      row[j] = Math.min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (isSame ? 0 : 1));
      const isSwapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      if (isSwapped) row[j] = Math.min(row[j], beforeLast[j - 2] + 1);
    }
    [beforeLast, last] = [last, row];
  }
  return last[b.length];
}
