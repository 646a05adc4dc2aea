// Whether an endpoint is asked through the web proxy that the environment names. Pure.
//
// gRPC's library takes http_proxy and its like for every target, loopback too, and knows them in lower case only. Such
// variables are meant for the web, so etcd is asked directly unless --etcd-proxy=environment says otherwise. Then this
// decides which endpoints (no-proxy.ts); the library finds the proxy and makes the tunnel.

import { isSpared } from '../no-proxy.js';

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
  return !isSpared(target, env['no_grpc_proxy'] || env['no_proxy'] || '');
}
