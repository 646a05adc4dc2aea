// Whether an endpoint is asked through the web proxy that the environment names. Pure.
//
// gRPC's library takes http_proxy and its like for every target, loopback too, and knows them in lower case only. Such
// variables are meant for the web, so etcd is asked directly unless --etcd-proxy=environment says otherwise. Then this
// decides which endpoints, by the rules that curl and Go share; the library finds the proxy and makes the tunnel.

import { BlockList, isIPv4 } from 'node:net';

type Environment = Record<string, string | undefined>;

const VARIABLES = ['grpc_proxy', 'https_proxy', 'http_proxy', 'no_grpc_proxy', 'no_proxy'] as const;

/** Gives the variables in upper case the name that the library reads; a lower-case one that is set wins. */
export function adoptUpperCase(env: Environment): void {
  for (const name of VARIABLES) {
    const upper = env[name.toUpperCase()] ?? '';
    if ((env[name] ?? '') === '' && upper !== '') env[name] = upper;
  }
}

/** Whether `target` (host:port) may go through a proxy: loopback never does, nor what no_proxy names. */
export function mayUseProxy(target: string, env: Environment): boolean {
  const colon = target.lastIndexOf(':');
  const host = target.slice(0, colon).toLowerCase();
  if (host === 'localhost' || host === '[::1]' || isInCidr(host, '127.0.0.0/8')) return false;
  const listed = env['no_grpc_proxy'] || env['no_proxy'] || '';
  return !listed
    .split(',')
    .map((item) => item.trim().toLowerCase())
    .some((item) => item === '*' || item === target || isInCidr(host, item) || isBelow(host, item));
}

function isInCidr(host: string, cidr: string): boolean {
  const [net, length] = cidr.split('/');
  if (!isIPv4(host) || !isIPv4(net) || !/^(?:\d|[12]\d|3[0-2])$/.test(length ?? '')) return false;
  const list = new BlockList();
  list.addSubnet(net, Number(length));
  return list.check(host);
}

/** A name stands for itself and for what ends in it, with or without a dot before it. */
function isBelow(host: string, name: string): boolean {
  const bare = name.replace(/^\*?\./, '');
  return bare !== '' && (host === bare || host.endsWith(`.${bare}`));
}
