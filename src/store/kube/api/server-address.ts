// Where the API server is: a URL of --kube-api-url, of a kubeconfig or of a pod's environment, parsed. Pure.
//
// People write passwords into URLs, and these messages go into logs: of a text with an "@" nothing is shown.

import { isIP } from 'node:net';
import { OverlayError, type ErrorCode } from '../../../core/errors.js';

export interface ServerAddress {
  /** For people: scheme://host:port, and the prefix. */
  readonly url: string;
  readonly isTls: boolean;
  /** A name or an address; IPv6 without brackets. */
  readonly host: string;
  readonly port: number;
  /** host:port; IPv6 in brackets. */
  readonly target: string;
  /** What stands before every path: "" or such as "/k8s/clusters/c-1". */
  readonly prefix: string;
}

/** Where a text came from, and what an error about it is called. */
export interface TextSource {
  /** Such as "--kube-api-url". */
  readonly name: string;
  readonly code: ErrorCode;
}

/** The parts of a URL that has only scheme, host, port and path; undefined for any other text. */
export function parseHttpUrl(text: string): URL | undefined {
  if (!/^https?:\/\/[^/]/i.test(text) || /[\s\\]/.test(text)) return undefined;
  const url = URL.canParse(text) ? new URL(text) : undefined;
  return url === undefined || url.search !== '' || url.hash !== '' ? undefined : url;
}

/**
 * The server that `text` names; without a scheme it is `defaultScheme`, as client-go has it. Throws OverlayError of
 * the source's code.
 */
export function parseServer(
  text: string,
  source: TextSource,
  defaultScheme: 'http' | 'https',
): ServerAddress {
  const trimmed = text.trim();
  const url = parseHttpUrl(trimmed.includes('://') ? trimmed : `${defaultScheme}://${trimmed}`);
  if (url === undefined || url.username !== '' || url.password !== '') {
    const shown = trimmed.includes('@') ? '[redacted]' : trimmed.slice(0, 200);
    throw new OverlayError(
      source.code,
      `Cannot use ${source.name} "${shown}": expected [http[s]://]host[:port][/path], without a user`,
    );
  }
  const isTls = url.protocol === 'https:';
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1');
  const port = url.port === '' ? (isTls ? 443 : 80) : Number(url.port);
  const target = joinHostPort(host, port);
  const prefix = url.pathname.replace(/\/+$/, '');
  return { url: `${isTls ? 'https' : 'http'}://${target}${prefix}`, isTls, host, port, target, prefix };
}

/** host:port, with brackets where an IPv6 address needs them. */
export function joinHostPort(host: string, port: number | string): string {
  return isIP(host) === 6 ? `[${host}]:${port}` : `${host}:${port}`;
}
