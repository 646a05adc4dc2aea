// The result of an ADD as the delegate's CHECK needs it. Pure.

import { isObject, type JsonObject } from './request.js';

/**
 * `prevResult` with a gateway in every route. A route that names none, as ours to the Network, is made through the
 * first gateway of its family (ConfigureIface in pkg/ipam of containernetworking/plugins); CHECK compares literally
 * with what the kernel has, and does not find it. Whatever is no result is left to the delegate to refuse.
 */
export function withGateways(prevResult: unknown): unknown {
  if (!isObject(prevResult) || !Array.isArray(prevResult['routes'])) return prevResult;
  const gateways = objectsOf(prevResult['ips'])
    .map(({ gateway }) => gateway)
    .filter((gateway) => typeof gateway === 'string' && gateway !== '') as string[];
  const complete = (route: unknown): unknown => {
    if (!isObject(route) || typeof route['dst'] !== 'string' || hasValue(route['gw'])) return route;
    const isIpv6 = route['dst'].includes(':');
    const gw = gateways.find((gateway) => gateway.includes(':') === isIpv6);
    return gw === undefined ? route : { ...route, gw };
  };
  return { ...prevResult, routes: prevResult['routes'].map(complete) };
}

function objectsOf(list: unknown): readonly JsonObject[] {
  return Array.isArray(list) ? list.filter(isObject) : [];
}

function hasValue(text: unknown): boolean {
  return text !== undefined && text !== null && text !== '';
}
