// The configuration of the plugin that does the work (bridge, unless told otherwise), made from the network
// configuration and subnet.env. Pure.

import { CNI_ERROR, CniError } from './cni-error.js';
import { isObject, type JsonObject, type NetworkConfiguration } from './request.js';
import type { SubnetEnv } from './subnet-env.js';

/**
 * What the delegate gets. Keys the operator gave are kept; `name`, `ipam.ranges` and, when the network has one,
 * `cniVersion` are always ours. Throws CniError 7 for a delegate that sets what only this plugin can know.
 */
export function composeDelegate(config: NetworkConfiguration, env: SubnetEnv): JsonObject {
  const { delegate, ipam } = config;
  checkDelegate(delegate);
  const composed: Record<string, unknown> = { ...delegate, name: config.name };
  if (config.runtimeConfig !== undefined) composed['runtimeConfig'] = config.runtimeConfig;
  composed['type'] ??= 'bridge';
  composed['ipMasq'] ??= !env.ipMasq; // who masquerades, the daemon or the bridge: never both, never neither
  composed['mtu'] ??= env.mtuBytes;
  if (composed['type'] === 'bridge') composed['isGateway'] ??= true;
  if (config.hasVersion) composed['cniVersion'] = config.cniVersion;
  composed['ipam'] = {
    ...ipam,
    type: ipam['type'] ?? 'host-local',
    ranges: env.subnets.map((subnet) => [{ subnet }]),
    routes: [...routesOf(ipam), ...env.networks.map((dst) => ({ dst }))],
  };
  return composed;
}

function checkDelegate(delegate: JsonObject): void {
  const type = delegate['type'];
  if (type !== undefined && typeof type !== 'string') {
    const text = "'delegate' dictionary, if present, must have (string) 'type' field";
    throw new CniError(CNI_ERROR.badConfig, text);
  }
  for (const key of ['name', 'ipam']) {
    if (Object.hasOwn(delegate, key)) {
      throw new CniError(CNI_ERROR.badConfig, `'delegate' must not have '${key}': it is set by this plugin`);
    }
  }
}

function routesOf(ipam: JsonObject): readonly JsonObject[] {
  const routes = ipam['routes'] ?? [];
  if (
    !Array.isArray(routes) ||
    !routes.every((route) => isObject(route) && typeof route['dst'] === 'string')
  ) {
    throw new CniError(
      CNI_ERROR.badConfig,
      `"ipam.routes" is ${JSON.stringify(routes)}: expected a list of {dst}`,
    );
  }
  return routes as readonly JsonObject[];
}
