// What the runtime asks for: CNI_* variables and the network configuration on stdin, checked before anything is done.

import { SUBNET_FILE } from '../core/defaults.js';
import { CNI_ERROR, CniError } from './cni-error.js';

/** Versions of the specification this plugin speaks, oldest first. */
export const SUPPORTED_VERSIONS = ['0.1.0', '0.2.0', '0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'] as const;

export const COMMANDS = ['ADD', 'DEL', 'CHECK', 'STATUS', 'GC', 'VERSION'] as const;
export type Command = (typeof COMMANDS)[number];

export type JsonObject = Readonly<Record<string, unknown>>;

/** The plugin's part of a network configuration. */
export interface NetworkConfiguration {
  readonly cniVersion: string;
  /** Whether the configuration named its version; a delegate is told only then. */
  readonly hasVersion: boolean;
  readonly name: string;
  readonly subnetFile: string;
  readonly dataDir: string;
  readonly delegate: JsonObject;
  readonly ipam: JsonObject;
  readonly runtimeConfig: unknown;
  readonly prevResult: unknown;
  /** Attachments that are still there: `cni.dev/valid-attachments`, with GC. */
  readonly validAttachments: readonly { readonly containerID: string; readonly ifname: string }[] | undefined;
}

/** The variables of a command. */
export interface Environment {
  readonly command: Command;
  readonly containerId: string;
  readonly ifname: string;
  readonly netns: string;
  /** Folders with plugins. */
  readonly path: readonly string[];
}

const REQUIRED: Readonly<Record<Command, readonly string[]>> = {
  ADD: ['CNI_CONTAINERID', 'CNI_NETNS', 'CNI_IFNAME', 'CNI_PATH'],
  CHECK: ['CNI_CONTAINERID', 'CNI_NETNS', 'CNI_IFNAME', 'CNI_PATH'],
  DEL: ['CNI_CONTAINERID', 'CNI_IFNAME', 'CNI_PATH'],
  STATUS: ['CNI_PATH'],
  GC: ['CNI_PATH'],
  VERSION: [],
};

// An identifier becomes a file name, so it must not be able to leave its folder.
const IDENTIFIER = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/;
const MAX_IDENTIFIER = 200;
const MAX_IFNAME = 15; // IFNAMSIZ - 1

function isIdentifier(text: string): boolean {
  return text.length <= MAX_IDENTIFIER && IDENTIFIER.test(text);
}

/** Reads the variables. Throws CniError 4 that names what is missing or wrong. */
export function readEnvironment(env: NodeJS.ProcessEnv): Environment {
  const command = env['CNI_COMMAND'] ?? '';
  if (!isCommand(command)) {
    const expected = `expected one of ${COMMANDS.join(', ')}`;
    throw new CniError(CNI_ERROR.badEnvironment, `CNI_COMMAND is ${JSON.stringify(command)}: ${expected}`);
  }
  const missing = REQUIRED[command].filter((name) => (env[name] ?? '') === '');
  if (missing.length > 0) {
    throw new CniError(CNI_ERROR.badEnvironment, `required env variables [${missing.join(',')}] missing`);
  }
  const containerId = env['CNI_CONTAINERID'] ?? '';
  if (containerId !== '' && !isIdentifier(containerId)) {
    const expected = 'expected letters, digits, "_", "." and "-", beginning with a letter or digit';
    throw new CniError(
      CNI_ERROR.badEnvironment,
      `CNI_CONTAINERID is ${JSON.stringify(containerId)}: ${expected}`,
    );
  }
  const ifname = env['CNI_IFNAME'] ?? '';
  if (ifname !== '' && (ifname.length > MAX_IFNAME || /[/:\s]|^\.\.?$/.test(ifname))) {
    const expected = `expected an interface name of at most ${MAX_IFNAME} characters`;
    throw new CniError(CNI_ERROR.badEnvironment, `CNI_IFNAME is ${JSON.stringify(ifname)}: ${expected}`);
  }
  const path = (env['CNI_PATH'] ?? '').split(':').filter((folder) => folder !== '');
  return { command, containerId, ifname, netns: env['CNI_NETNS'] ?? '', path };
}

function isCommand(text: string): text is Command {
  return (COMMANDS as readonly string[]).includes(text);
}

/** Reads stdin. Throws CniError 1, 6 or 7. */
export function readConfiguration(text: string): NetworkConfiguration {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new CniError(
      CNI_ERROR.undecodable,
      `network configuration is no JSON: ${(error as Error).message}`,
    );
  }
  if (!isObject(value)) {
    throw new CniError(CNI_ERROR.undecodable, 'network configuration: expected a JSON object');
  }
  const config = value;
  const hasVersion = stringOf(config, 'cniVersion', '') !== '';
  const cniVersion = hasVersion ? stringOf(config, 'cniVersion', '') : '0.1.0';
  if (!(SUPPORTED_VERSIONS as readonly string[]).includes(cniVersion)) {
    const supported = SUPPORTED_VERSIONS.join(', ');
    throw new CniError(
      CNI_ERROR.incompatibleVersion,
      `cniVersion is ${JSON.stringify(cniVersion)}: this plugin speaks ${supported}`,
    );
  }
  const name = stringOf(config, 'name', '');
  if (name === '') throw new CniError(CNI_ERROR.badConfig, 'missing network name');
  if (!isIdentifier(name)) {
    throw new CniError(CNI_ERROR.badConfig, `network name is ${JSON.stringify(name)}: invalid characters`);
  }
  return {
    cniVersion,
    hasVersion,
    name,
    subnetFile: stringOf(config, 'subnetFile', SUBNET_FILE),
    dataDir: stringOf(config, 'dataDir', '/var/lib/cni/flannel'),
    delegate: objectOf(config, 'delegate'),
    ipam: objectOf(config, 'ipam'),
    runtimeConfig: config['runtimeConfig'],
    prevResult: config['prevResult'],
    validAttachments: attachments(config['cni.dev/valid-attachments']),
  };
}

/** Whether `version` is at least `least`; both are numbers with dots. */
export function isAtLeast(version: string, least: string): boolean {
  const order = SUPPORTED_VERSIONS as readonly string[];
  return order.indexOf(version) >= order.indexOf(least);
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function stringOf(config: JsonObject, key: string, otherwise: string): string {
  const value = config[key] ?? otherwise;
  if (typeof value !== 'string') {
    throw new CniError(CNI_ERROR.badConfig, `"${key}" is ${JSON.stringify(value)}: expected a string`);
  }
  return value === '' ? otherwise : value;
}

function objectOf(config: JsonObject, key: string): JsonObject {
  const value = config[key] ?? {};
  if (!isObject(value)) {
    throw new CniError(CNI_ERROR.badConfig, `"${key}" is ${JSON.stringify(value)}: expected an object`);
  }
  return value;
}

function attachments(value: unknown): NetworkConfiguration['validAttachments'] {
  if (value === undefined) return undefined;
  const isAttachment = (one: unknown): one is { containerID: string; ifname: string } =>
    isObject(one) && typeof one['containerID'] === 'string' && typeof one['ifname'] === 'string';
  if (!Array.isArray(value) || !value.every(isAttachment)) {
    throw new CniError(
      CNI_ERROR.badConfig,
      '"cni.dev/valid-attachments": expected a list of {containerID, ifname}',
    );
  }
  return value;
}
