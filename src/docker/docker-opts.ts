// Docker daemon options from the subnet file: what mk-docker-opts writes, as values and text. Pure.
//
// The text is that of flannel's script of the same name, byte for byte, because units of many distributions read it.
// Two things differ on purpose: the subnet file is parsed where the script sources it as root, and a value in it that
// is no subnet or number is refused instead of being passed on to Docker's command line.

import { SUBNET_FILE } from '../core/defaults.js';
import { ipv4 } from '../net/ipv4.js';
import { formatPrefix, parseCidr } from '../net/prefix.js';

export interface DockerOptsSettings {
  /** -f @default SUBNET_FILE */
  readonly subnetFile: string;
  /** -d @default '/run/docker_opts.env' */
  readonly outputFile: string;
  /** -i, or neither of -i and -c. */
  readonly hasIndividual: boolean;
  /** -c, or neither of -i and -c. */
  readonly hasCombined: boolean;
  /** -k @default 'DOCKER_OPTS' */
  readonly combinedKey: string;
  /** Not -m. */
  readonly hasIpMasq: boolean;
}

export const USAGE = `usage: mk-docker-opts [-f FILE] [-d FILE] [-i] [-c] [-m] [-k KEY]

Writes options for the Docker daemon that make it use the subnet of the overlay.

  -f FILE  subnet file to read (default ${SUBNET_FILE})
  -d FILE  file to write (default /run/docker_opts.env)
  -i       write one variable for each option, such as DOCKER_OPT_BIP
  -c       write one variable with all options; without -i and -c both are written
  -k KEY   name of that variable (default DOCKER_OPTS)
  -m       leave out --ip-masq, which Docker before 1.2 does not know
`;

/** Reads the command line as getopts(1p) does: letters may be joined, a value may follow at once. Undefined: usage. */
export function parseDockerOptsArguments(args: readonly string[]): DockerOptsSettings | undefined {
  const values: Record<string, string> = {
    f: SUBNET_FILE,
    d: '/run/docker_opts.env',
    k: 'DOCKER_OPTS',
  };
  const letters = new Set<string>();
  for (let i = 0; i < args.length; i++) {
    const argument = args[i];
    if (argument === '--' || !/^-./.test(argument)) break; // operands are ignored
    for (let j = 1; j < argument.length; j++) {
      const letter = argument[j];
      if (Object.hasOwn(values, letter)) {
        const value = j + 1 < argument.length ? argument.slice(j + 1) : args[++i];
        if (value === undefined) return undefined;
        values[letter] = value;
        break;
      }
      if (!'icm'.includes(letter)) return undefined;
      letters.add(letter);
    }
  }
  if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(values['k'])) return undefined;
  const hasNeither = !letters.has('i') && !letters.has('c');
  return {
    subnetFile: values['f'],
    outputFile: values['d'],
    hasIndividual: letters.has('i') || hasNeither,
    hasCombined: letters.has('c') || hasNeither,
    combinedKey: values['k'],
    hasIpMasq: !letters.has('m'),
  };
}

/** The assignments in the text of a subnet file; quotes and "export" are allowed, anything else is no assignment. */
export function parseAssignments(text: string): Map<string, string> {
  const assignments = new Map<string, string>();
  for (const line of text.split('\n')) {
    const match = /^\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=(["']?)([^"'`$\\]*)\2\s*$/.exec(line);
    if (match !== null) assignments.set(match[1], match[3]);
  }
  return assignments;
}

/**
 * The text to write, from the variables of the environment overlaid with those of the subnet file.
 * Throws RangeError with the message for the operator when a value cannot be used; nothing is to be written then.
 */
export function formatDockerOpts(
  variables: ReadonlyMap<string, string>,
  settings: DockerOptsSettings,
): string {
  const options = new Map([...variables].filter(([name]) => name.includes('DOCKER_OPT_')));
  const subnet = variables.get('FLANNEL_SUBNET');
  if (subnet !== undefined && subnet !== '') {
    if (parseCidr(subnet) === undefined) throw invalid('FLANNEL_SUBNET', subnet);
    options.set('DOCKER_OPT_BIP', `--bip=${subnet}`);
  }
  const mtu = variables.get('FLANNEL_MTU');
  if (mtu !== undefined && mtu !== '') {
    if (!/^\d+$/.test(mtu)) throw invalid('FLANNEL_MTU', mtu);
    options.set('DOCKER_OPT_MTU', `--mtu=${mtu}`);
  }
  const ipMasq = variables.get('FLANNEL_IPMASQ');
  if (settings.hasIpMasq && ipMasq !== undefined && ipMasq !== '') {
    if (ipMasq !== 'true' && ipMasq !== 'false') throw invalid('FLANNEL_IPMASQ', ipMasq);
    // The inverse: either the overlay daemon masquerades, or Docker does.
    options.set('DOCKER_OPT_IPMASQ', `--ip-masq=${ipMasq === 'true' ? 'false' : 'true'}`);
  }
  // As the shell's "set" lists variables: by byte value.
  const sorted = [...options].sort(([a], [b]) => (a < b ? -1 : 1));
  const lines: string[] = [];
  if (settings.hasIndividual) lines.push(...sorted.map(([name, value]) => `${name}="${value}"`));
  if (settings.hasCombined) {
    const inherited = variables.get(settings.combinedKey) ?? '';
    const all = sorted.map(([, value]) => ` ${value}`).join('');
    lines.push(`${settings.combinedKey}="${inherited === '' ? '' : `${inherited} `}${all}"`);
  }
  return lines.map((line) => `${line}\n`).join('');
}

/** The network of FLANNEL_SUBNET as routes would name it: its last octet less one, whatever the prefix length. */
export function subnetBase(subnet: string): string | undefined {
  const cidr = parseCidr(subnet);
  if (cidr === undefined || (cidr.address & 255) === 0) return undefined;
  return formatPrefix({ address: ipv4(cidr.address - 1), length: cidr.length });
}

function invalid(name: string, value: string): RangeError {
  return new RangeError(`Invalid value of ${name}: ${value}`);
}
