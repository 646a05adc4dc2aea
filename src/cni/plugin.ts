// The CNI plugin: reads subnet.env, makes a configuration for another plugin (bridge by default), and runs that.
//
//   ADD     compose ─► keep ─► delegate ADD; its result is ours
//   DEL     what was kept ─► delegate DEL ─► forget, and only then; nothing kept is success
//   CHECK   what was kept ─► delegate CHECK with the runtime's prevResult, its routes completed
//   STATUS  subnet.env can be read and the delegate is there ─► delegate STATUS, if it speaks that version
//   GC      delegate GC ─► forget attachments of this network that are no longer valid

import { readFileSync, statSync } from 'node:fs';
import { CNI_ERROR, CniError } from './cni-error.js';
import { composeDelegate } from './delegate-config.js';
import { isAtLeast, type Environment, type JsonObject, type NetworkConfiguration } from './request.js';
import { withGateways } from './prev-result.js';
import { runPlugin, speaks } from './run-plugin.js';
import {
  findAttachment,
  forgetAttachment,
  forgetUnfinished,
  listAttachments,
  saveAttachment,
} from './attachments.js';
import { parseSubnetEnv } from './subnet-env.js';

/** Carries out a command and returns what belongs on stdout. Throws CniError. */
export function runCni(request: Environment, config: NetworkConfiguration, env: NodeJS.ProcessEnv): string {
  switch (request.command) {
    case 'ADD':
      return add(request, config, env);
    case 'DEL':
      return remove(request, config, env);
    case 'CHECK':
      return check(request, config, env);
    case 'STATUS':
      return status(request, config, env);
    case 'GC':
      return collect(request, config, env);
    case 'VERSION':
      return '';
  }
}

function add(request: Environment, config: NetworkConfiguration, env: NodeJS.ProcessEnv): string {
  refuseOwnNamespace(request.netns, env);
  const delegate = compose(config);
  saveAttachment(config.dataDir, request.containerId, request.ifname, delegate);
  return runPlugin('ADD', delegate, request.path, env);
}

function remove(request: Environment, config: NetworkConfiguration, env: NodeJS.ProcessEnv): string {
  refuseOwnNamespace(request.netns, env);
  forgetUnfinished(config.dataDir, request.containerId, request.ifname);
  const saved = findAttachment(config.dataDir, request.containerId, request.ifname, config.name);
  if (saved === undefined) return '';
  if (saved.delegate === undefined) {
    process.stderr.write(`${saved.path}: not a delegate's configuration, left alone\n`);
    return '';
  }
  runPlugin('DEL', saved.delegate, request.path, env);
  forgetAttachment(saved.path);
  return '';
}

function check(request: Environment, config: NetworkConfiguration, env: NodeJS.ProcessEnv): string {
  requireVersion(config, '0.4.0', 'CHECK');
  const saved = findAttachment(config.dataDir, request.containerId, request.ifname, config.name);
  if (saved?.delegate === undefined) {
    const what = `container ${request.containerId}, interface ${request.ifname}`;
    throw new CniError(CNI_ERROR.unknownContainer, `${what}: nothing is kept of it in ${config.dataDir}`);
  }
  // The runtime writes prevResult in its present version, whatever the pod was added with.
  const version = config.hasVersion ? { cniVersion: config.cniVersion } : {};
  const delegate = { ...saved.delegate, ...version, prevResult: withGateways(config.prevResult) };
  runPlugin('CHECK', delegate, request.path, env);
  return '';
}

function status(request: Environment, config: NetworkConfiguration, env: NodeJS.ProcessEnv): string {
  requireVersion(config, '1.1.0', 'STATUS');
  let delegate: JsonObject;
  try {
    delegate = compose(config);
  } catch (error) {
    if (!(error instanceof CniError)) throw error;
    throw new CniError(CNI_ERROR.notAvailable, error.message, error.details);
  }
  if (speaks(delegate, config.cniVersion, request.path, env))
    runPlugin('STATUS', delegate, request.path, env);
  return '';
}

function collect(request: Environment, config: NetworkConfiguration, env: NodeJS.ProcessEnv): string {
  requireVersion(config, '1.1.0', 'GC');
  const valid = config.validAttachments;
  // Without the list nothing can be told from what is in use.
  if (valid === undefined) return '';
  const delegate = { ...compose(config), 'cni.dev/valid-attachments': valid };
  // What a delegate could not clean up must stay known: a DEL may still come.
  if (!speaks(delegate, config.cniVersion, request.path, env)) return '';
  runPlugin('GC', delegate, request.path, env);
  const isValid = (containerId: string, ifname: string | undefined): boolean =>
    valid.some((one) => one.containerID === containerId && (ifname === undefined || one.ifname === ifname));
  for (const { containerId, ifname, path } of listAttachments(config.dataDir, config.name)) {
    if (!isValid(containerId, ifname)) forgetAttachment(path);
  }
  return '';
}

function compose(config: NetworkConfiguration): JsonObject {
  let text: string;
  try {
    text = readFileSync(config.subnetFile, 'utf8');
  } catch (error) {
    throw new CniError(
      CNI_ERROR.io,
      `failed to load flannel 'subnet.env' file: ${(error as Error).message}. Is the daemon of this host running?`,
    );
  }
  return composeDelegate(config, parseSubnetEnv(text, config.subnetFile));
}

function requireVersion({ cniVersion }: NetworkConfiguration, least: string, command: string): void {
  if (isAtLeast(cniVersion, least)) return;
  const text = `config version does not allow ${command}: it is ${cniVersion}, expected ${least} or later`;
  throw new CniError(CNI_ERROR.incompatibleVersion, text);
}

/** A runtime that gives its own namespace would have its own interfaces renamed and removed. */
function refuseOwnNamespace(netns: string, env: NodeJS.ProcessEnv): void {
  if (netns === '' || /^(true|1)$/.test(env['CNI_NETNS_OVERRIDE'] ?? '')) return;
  const given = statSync(netns, { throwIfNoEntry: false });
  const own = statSync('/proc/self/ns/net');
  if (given !== undefined && given.ino === own.ino && given.dev === own.dev) {
    const text = `plugin's netns and netns from CNI_NETNS should not be the same: ${netns}`;
    throw new CniError(CNI_ERROR.sameNamespace, text);
  }
}
