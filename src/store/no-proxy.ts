// What the environment keeps away from a web proxy: NO_PROXY, by the rules of Go's net/http, which flannel and kubectl
// are built on (golang.org/x/net/http/httpproxy). Pure.
//
// An item of the list is one of: * (everything), a prefix (10.0.0.0/8, fd00::/8), an address, a domain, each of the
// last two also with a port. "example.org" stands for itself and what is below it, ".example.org" and "*.example.org"
// only for what is below. Blanks, case and what cannot be read are ignored.

import { BlockList, isIP } from 'node:net';

interface Target {
  /** In lower case, without brackets. */
  readonly host: string;
  readonly port: string;
}

/** Whether `target` (host:port; IPv6 in brackets) is to be asked directly: loopback always is. */
export function isSpared(target: string, noProxy: string): boolean {
  const colon = target.lastIndexOf(':');
  const host = bare(target.slice(0, colon).toLowerCase());
  if (host === 'localhost' || isLoopback(host)) return true;
  const asked = { host, port: target.slice(colon + 1) };
  return noProxy
    .split(',')
    .map((item) => item.trim().toLowerCase())
    .some((item) => item === '*' || isInPrefix(host, item) || isNamedBy(asked, item));
}

function isNamedBy({ host, port }: Target, item: string): boolean {
  const [, name = '', itemPort = port] = /^(\[[^\]]*\]|[^:]*)(?::(\d+))?$/.exec(item) ?? ['', item];
  if (itemPort !== port) return false;
  const itemHost = bare(name);
  const family = isIP(itemHost);
  if (family !== 0)
    return isIP(host) === family && isInPrefix(host, `${itemHost}/${family === 4 ? 32 : 128}`);
  const domain = itemHost.replace(/^\*(?=\.)/, '');
  if (domain === '' || domain === '.') return false;
  return domain.startsWith('.') ? host.endsWith(domain) : host === domain || host.endsWith(`.${domain}`);
}

function isLoopback(host: string): boolean {
  return isInPrefix(host, '127.0.0.0/8') || isInPrefix(host, '::1/128');
}

function isInPrefix(host: string, prefix: string): boolean {
  const [net, length = ''] = prefix.split('/');
  const family = isIP(net);
  if (family === 0 || isIP(host) !== family) return false;
  const bits = family === 4 ? 32 : 128;
  if (!/^\d{1,3}$/.test(length) || Number(length) > bits) return false;
  const type = family === 4 ? 'ipv4' : 'ipv6';
  const list = new BlockList();
  list.addSubnet(net, Number(length), type);
  return list.check(host, type);
}

const bare = (host: string): string => host.replace(/^\[(.*)\]$/, '$1');
