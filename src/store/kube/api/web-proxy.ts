// The web proxy before the API server: of a kubeconfig's proxy-url, or of the environment.
//
// Unlike etcd, which is hardly ever behind one, the API server of flannel is asked through HTTPS_PROXY (HTTP_PROXY for
// an http URL) unless NO_PROXY names it, since that is what Go's client does; names in upper case win there. A tunnel
// (CONNECT) is asked for in both cases. SOCKS is not spoken.

import { type ErrorCode, OverlayError } from '../../../core/errors.js';
import { isSpared } from '../../no-proxy.js';
import { joinHostPort, parseHttpUrl, type ServerAddress, type TextSource } from './server-address.js';

/** Environment variables of this process, or of a test. */
export type Environment = Readonly<Record<string, string | undefined>>;

export interface WebProxy {
  /** For people, without credentials. */
  readonly url: string;
  readonly isTls: boolean;
  readonly host: string;
  readonly port: number;
  readonly target: string;
  /** Of Proxy-Authorization; never shown. */
  readonly authorization: string | undefined;
}

/** The proxy that the environment names for `server`. Throws OverlayError E_USAGE when it cannot be used. */
export function proxyOfEnvironment(server: ServerAddress, environment: Environment): WebProxy | undefined {
  const value = (name: string): string => environment[name] || environment[name.toLowerCase()] || '';
  const name = server.isTls ? 'HTTPS_PROXY' : 'HTTP_PROXY';
  const text = value(name);
  if (text === '' || isSpared(server.target, value('NO_PROXY'))) return undefined;
  return parseProxy(text.includes('://') ? text : `http://${text}`, { name, code: 'E_USAGE' });
}

/** Throws OverlayError of the source's code; the text is not shown, for it may hold a password. */
export function parseProxy(text: string, source: TextSource): WebProxy {
  const url = parseHttpUrl(text.trim());
  if (url === undefined) throw refusal(source, source.code);
  const isTls = url.protocol === 'https:';
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1');
  const port = url.port === '' ? (isTls ? 443 : 80) : Number(url.port);
  const target = joinHostPort(host, port);
  let authorization: string | undefined;
  try {
    const user = `${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`;
    if (user !== ':') authorization = `Basic ${Buffer.from(user).toString('base64')}`;
  } catch {
    throw refusal(source, source.code);
  }
  return { url: `${isTls ? 'https' : 'http'}://${target}`, isTls, host, port, target, authorization };
}

function refusal({ name }: TextSource, code: ErrorCode): OverlayError {
  return new OverlayError(
    code,
    `Cannot use the proxy of ${name}: expected http[s]://[user:password@]host[:port]`,
  );
}
