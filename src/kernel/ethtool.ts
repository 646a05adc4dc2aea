// Features of a device, such as checksums and segmentation, that an administrator has set with the program ethtool.
//
// The program is optional. Where it is not installed, nobody has set anything with it.

import { checkInterfaceName } from './interface-name.js';
import { runCommand } from './command.js';
import { OverlayError } from '../core/errors.js';

/** Whether each feature that can be changed is asked for, by the name that `ethtool -K` takes. */
export type Features = ReadonlyMap<string, boolean>;

/** The features of a device; undefined without ethtool, or when the device is gone. */
export async function readFeatures(name: string, signal?: AbortSignal): Promise<Features | undefined> {
  const text = await printFeatures(name, signal);
  return text === undefined ? undefined : parseFeatures(text);
}

/**
 * Whether a device has a feature in force, also one that cannot be changed; undefined without ethtool, or when the
 * device is gone or does not know it.
 */
export async function readFeature(
  name: string,
  feature: string,
  signal?: AbortSignal,
): Promise<boolean | undefined> {
  const text = await printFeatures(name, signal);
  return text === undefined ? undefined : stateOf(feature, text);
}

/** Sets features in one command. Rejects with OverlayError E_KERNEL, also when ethtool is missing. */
export async function setFeatures(name: string, features: Features, signal?: AbortSignal): Promise<void> {
  const words = [...features].flatMap(([feature, isOn]) => [feature, isOn ? 'on' : 'off']);
  const { status, stderr } = await runCommand('ethtool', ['-K', checkInterfaceName(name), ...words], {
    signal,
  });
  if (status === 0) return;
  throw new OverlayError(
    'E_KERNEL',
    `"ethtool -K ${name} ${words.join(' ')}" failed: ${stderr.trim().split('\n').join('; ')}`,
  );
}

/** The features of `wanted` that `current` has with another value. */
export function differingFeatures(wanted: Features, current: Features): Features {
  return new Map([...wanted].filter(([feature, isOn]) => current.get(feature) === !isOn));
}

/**
 * Reads what `ethtool -k` prints. "[requested on]" is what was asked for where another feature, when off, forbids it;
 * lines with indented ones below are sums of those.
 */
export function parseFeatures(text: string): Features {
  const features = new Map<string, boolean>();
  const lines = text.split('\n');
  lines.forEach((line, index) => {
    const match = /^\t?([a-z0-9-]+): (on|off)(?: \[(fixed|requested on|requested off)\])?/.exec(line);
    if (match === null) return;
    const [, feature, state, remark = ''] = match;
    const isSum = !line.startsWith('\t') && lines[index + 1]?.startsWith('\t');
    if (isSum || remark === 'fixed') return;
    features.set(feature, (remark === '' ? state : remark.slice('requested '.length)) === 'on');
  });
  return features;
}

/** Whether what `ethtool -k` prints says that a feature is on; undefined when it does not name it. */
export function stateOf(feature: string, text: string): boolean | undefined {
  const line = text.split('\n').find((known) => known.trim().startsWith(`${feature}:`));
  const state = /: (on|off)/.exec(line ?? '')?.[1];
  return state === undefined ? undefined : state === 'on';
}

async function printFeatures(name: string, signal: AbortSignal | undefined): Promise<string | undefined> {
  try {
    const { status, stdout } = await runCommand('ethtool', ['-k', checkInterfaceName(name)], { signal });
    return status === 0 ? stdout : undefined;
  } catch (error) {
    if (error instanceof OverlayError && isMissing(error)) return undefined;
    throw error;
  }
}

function isMissing({ cause }: OverlayError): boolean {
  return (cause as NodeJS.ErrnoException | undefined)?.code === 'ENOENT';
}
