// The command line, in Go's syntax, as flanneld's users write it: -flag=x, --flag=x, --flag x; a boolean stands alone
// or takes =true, =false, =1, =0, =t, =f. A variable FLANNELD_<NAME> counts when its flag is not given and it is not
// empty. Unlike flanneld, which goes on with the default, a bad value or an unknown FLANNELD_* variable is an error
// wherever it comes from, and the exit code of an error is not 0.

import { OverlayError } from '../core/errors.js';
import { usageText } from './flag-docs.js';
import {
  ALL_FLAGS,
  type Flag,
  type FlagGroup,
  FLAGS,
  type Flags,
  IGNORED,
  parseBool,
  type ValuesOf,
  variableOf,
} from './flags.js';
import { isServiceLink, misspelt } from './variables.js';

type Environment = Readonly<Record<string, string | undefined>>;

export type ParsedCommandLine =
  | {
      readonly kind: 'run';
      readonly flags: Flags;
      /** Flags that were given and change nothing, in words. */ readonly warnings: readonly string[];
    }
  | { readonly kind: 'help'; readonly text: string }
  | { readonly kind: 'version' };

const BY_NAME = new Map(ALL_FLAGS.map((flag) => [flag.name, flag]));
const KNOWN_NAMES = [...BY_NAME.keys(), ...Object.keys(IGNORED)];

/** Parses the arguments after the program's name. Throws OverlayError E_USAGE naming flag, value and origin. */
export function parseFlags(args: readonly string[], env: Environment): ParsedCommandLine {
  const given = new Map<string, string[]>();
  for (let i = 0; i < args.length; i++) {
    const match = /^--?([^-=][^=]*)(?:=(.*))?$/s.exec(args[i]);
    if (match === null) throw usage(`Unexpected argument ${showArgument(args, i)}: expected a flag`);
    const [, name] = match;
    let value = match[2] as string | undefined;
    if (name === 'h' || name === 'help') return { kind: 'help', text: usageText() };
    if (name === 'version') {
      if (switchOf('--version', value ?? 'true')) return { kind: 'version' };
      continue;
    }
    const flag = BY_NAME.get(name) ?? ignoredFlag(name);
    if (flag === undefined) throw usage(`Unknown flag --${/^[\w.-]*/.exec(name)![0]}: --help lists all`);
    if (value === undefined && flag.isSwitch) value = 'true';
    if (value === undefined) {
      if (i + 1 >= args.length) throw usage(`Flag --${name} needs a value: ${flag.expected}`);
      value = args[++i];
    }
    const before = given.get(name);
    if (before === undefined) given.set(name, [value]);
    else if (flag.isList) before.push(value);
    else throw usage(`Flag --${name} is given more than once`);
  }
  const unknown = misspelt(env, KNOWN_NAMES.map(variableOf));
  if (unknown.length > 0) throw usage(unknown.join('; '));
  return { kind: 'run', flags: flagsOf(given, env), warnings: ignoredWarnings(given, env) };
}

function flagsOf(given: ReadonlyMap<string, readonly string[]>, env: Environment): Flags {
  const valuesOf = <G extends FlagGroup>(group: G): ValuesOf<G> => {
    const entries = Object.entries(group).map(([key, flag]) => [key, valueOf(flag, given, env)] as const);
    return Object.fromEntries(entries) as ValuesOf<G>;
  };
  return {
    etcd: valuesOf(FLAGS.etcd),
    kube: valuesOf(FLAGS.kube),
    underlay: valuesOf(FLAGS.underlay),
    store: valuesOf(FLAGS.store),
    files: valuesOf(FLAGS.files),
    firewall: valuesOf(FLAGS.firewall),
    backend: valuesOf(FLAGS.backend),
    offloads: valuesOf(FLAGS.offloads),
    probes: valuesOf(FLAGS.probes),
    servers: valuesOf(FLAGS.servers),
    log: valuesOf(FLAGS.log),
  };
}

function valueOf<T>(flag: Flag<T>, given: ReadonlyMap<string, readonly string[]>, env: Environment): T {
  const values = given.get(flag.name);
  if (values !== undefined) return parsed(flag, values, `--${flag.name}`);
  const value = fromEnvironment(flag.name, env);
  return value === undefined ? flag.otherwise : parsed(flag, [value], variableOf(flag.name));
}

function parsed<T>(flag: Flag<T>, values: readonly string[], origin: string): T {
  const value = flag.parse(values);
  if (value === undefined)
    throw usage(`${origin} is ${JSON.stringify(values[0])}: expected ${flag.expected}`);
  return value;
}

/** The value of a flag's variable; undefined when it is unset, empty, or not one of ours. */
function fromEnvironment(name: string, env: Environment): string | undefined {
  const variable = variableOf(name);
  const value = env[variable];
  return value === undefined || value === '' || isServiceLink(variable, value) ? undefined : value;
}

/** How a flag of glog is parsed; undefined for any other name. */
function ignoredFlag(name: string): Pick<Flag<string>, 'isSwitch' | 'isList' | 'expected'> | undefined {
  if (!Object.hasOwn(IGNORED, name)) return undefined;
  const { isSwitch } = IGNORED[name];
  return { isSwitch, isList: false, expected: isSwitch ? 'true or false' : 'text' };
}

function ignoredWarnings(given: ReadonlyMap<string, readonly string[]>, env: Environment): string[] {
  return Object.entries(IGNORED).flatMap(([name, { isSwitch, fits, reason }]) => {
    const value = given.get(name)?.[0] ?? fromEnvironment(name, env);
    if (value === undefined) return [];
    const origin = given.has(name) ? `--${name}` : variableOf(name);
    const meant = isSwitch ? String(switchOf(origin, value)) : value;
    return meant === fits ? [] : [`${origin} is ignored: ${reason}`];
  });
}

function switchOf(origin: string, value: string): boolean {
  const parsed = parseBool(value);
  if (parsed === undefined) throw usage(`${origin} is ${JSON.stringify(value)}: expected true or false`);
  return parsed;
}

// A password with a blank that was not quoted arrives as an argument of its own, and so may a misspelt assignment of
// FLANNELD_* or --etcd-*. These messages go into logs, so they show only what cannot be part of a password.
const MAY_BE_SECRET = /pass|secret|token|user|etcd/i;

function showArgument(args: readonly string[], index: number): string {
  let flag = index - 1;
  while (flag > 0 && !args[flag].startsWith('-')) flag--;
  const isHarmless =
    /^[-=\w.]*$/.test(args[index]) &&
    !args.slice(Math.max(flag, 0), index + 1).some((arg) => MAY_BE_SECRET.test(arg));
  return isHarmless ? JSON.stringify(args[index]) : `${index + 1} (not shown: it may be part of a password)`;
}

function usage(message: string): OverlayError {
  return new OverlayError('E_USAGE', message);
}
