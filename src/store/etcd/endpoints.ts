// The --etcd-endpoints list, parsed. Pure.
//
// Comma separated; blanks around an item and trailing slashes are dropped, because both occur in unit files and etcd3
// takes "http://h:2379/" for a host named "h:2379/". Scheme rules are the Go client's: http never uses TLS, https
// always does, no scheme uses TLS when certificates are configured.
//
// People write passwords into URLs, and these messages go into logs. So of an item that is refused only what is known
// to be harmless is shown, instead of cutting out what looks like a secret.

import { OverlayError } from '../../core/errors.js';

export interface Endpoint {
  /** As shown to the operator: scheme://host:port, no user information. */
  readonly url: string;
  /** host:port for the gRPC channel; IPv6 in brackets. */
  readonly target: string;
  readonly isTls: boolean;
}

const DEFAULT_PORT = 2379; // etcd's registered client port (IANA etcd-client)
// Letters of names and numbers alone: with "%" allowed, "root%3Apw%40h" would be a host, and so stand in every message.
const ENDPOINT = /^(?:([a-z][a-z0-9+.-]*):\/\/)?(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(\d{1,5}))?$/i;
const HAS_USER = /@|%40/;

/**
 * The endpoints named in `text`, in order, without duplicates. `hasTlsFiles` decides for items without a scheme.
 * Throws OverlayError E_USAGE for an empty list or an item that is not [http[s]://]host[:port].
 */
export function parseEndpoints(text: string, hasTlsFiles: boolean): readonly Endpoint[] {
  const endpoints = new Map<string, Endpoint>();
  for (const [index, item] of text.split(',').entries()) {
    const trimmed = item.trim().replace(/\/+$/, '');
    if (trimmed === '') continue;
    const endpoint = parseEndpoint(trimmed, hasTlsFiles);
    if (endpoint === undefined) throw refusal(trimmed, index + 1, HAS_USER.test(text));
    endpoints.set(endpoint.url, endpoint);
  }
  if (endpoints.size === 0) {
    throw new OverlayError(
      'E_USAGE',
      `Cannot use --etcd-endpoints "${text}": no endpoint in it (expected such as http://127.0.0.1:2379)`,
    );
  }
  return [...endpoints.values()];
}

function parseEndpoint(text: string, hasTlsFiles: boolean): Endpoint | undefined {
  const match = ENDPOINT.exec(text);
  const scheme = match?.[1]?.toLowerCase();
  const port = match?.[3] === undefined ? DEFAULT_PORT : Number(match[3]);
  if (
    match === null ||
    (scheme !== undefined && scheme !== 'http' && scheme !== 'https') ||
    port < 1 ||
    port > 65535
  )
    return undefined;
  const isTls = scheme === undefined ? hasTlsFiles : scheme === 'https';
  const target = `${match[2]}:${port}`;
  return { url: `${isTls ? 'https' : 'http'}://${target}`, target, isTls };
}

/** `hasUser`: an "@", or its code, anywhere in the list; a comma in a password would make it several items. */
function refusal(item: string, place: number, hasUser: boolean): OverlayError {
  const shown = hasUser ? '[redacted]' : showHarmless(item);
  const hint = hasUser ? '; a user goes into --etcd-username and FLANNELD_ETCD_PASSWORD' : '';
  return new OverlayError(
    'E_USAGE',
    `Cannot use etcd endpoint "${shown}", item ${place} of --etcd-endpoints: ` +
      `expected [http[s]://]host[:port]${hint}`,
  );
}

/** Scheme, host and port, if they are plainly that; nothing of a path, query or fragment. */
function showHarmless(item: string): string {
  const [all = '', scheme = '', host = ''] = /^((?:https?|ftp|unix):\/\/)?([^/?#]*)/i.exec(item) ?? [];
  if (!/^(?:\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::\d{1,5})?$/i.test(host)) return `${scheme}[not shown]`;
  return all === item ? item : `${all}…`;
}
