// What sockets, TLS and HTTP throw, as WayFault with a text that helps.

import { messageOf } from '../../../core/errors.js';
import { WayFault } from './faults.js';

// OpenSSL's and Node's codes for a handshake or certificate that was refused (Node documentation, "TLS: X509
// certificate error codes"; ERR_SSL_* are OpenSSL's reasons).
const TLS_CODE =
  /^(?:ERR_SSL_|ERR_TLS_|EPROTO$|CERT_|CRL_|UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_|INVALID_CA$|INVALID_PURPOSE$)/;
const TLS_CODES: ReadonlySet<string> = new Set([
  'ERROR_IN_CERT_NOT_BEFORE_FIELD',
  'ERROR_IN_CERT_NOT_AFTER_FIELD',
  'HOSTNAME_MISMATCH',
  'PATH_LENGTH_EXCEEDED',
]);

/** `error` met before a connection was ready ("connect") or while it was used ("use"). */
export function toWayFault(error: unknown, phase: 'connect' | 'use', mayResend = false): WayFault {
  if (error instanceof WayFault) return error;
  const reason = isTlsError(error) ? 'tls' : phase === 'connect' ? 'unreachable' : 'broken';
  return new WayFault(reason, textOfError(error), { cause: error, mayResend });
}

function isTlsError(error: unknown): boolean {
  const code = codeOf(error);
  return TLS_CODE.test(code) || TLS_CODES.has(code);
}

/** An error of several addresses says nothing itself; OpenSSL's text is a line of its source unless cut. */
function textOfError(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return textOfError(error.errors[0]);
  const code = codeOf(error);
  if (code === 'ERR_SSL_WRONG_VERSION_NUMBER' || code === 'ERR_SSL_PACKET_LENGTH_TOO_LONG')
    return 'the server does not speak TLS (an http:// URL?)';
  const detail = (error as { reason?: unknown }).reason;
  if (code.startsWith('ERR_SSL_') && typeof detail === 'string') return `TLS: ${detail}`;
  const text = messageOf(error) || code;
  return isTlsError(error) ? `${text} (${code})` : text;
}

function codeOf(error: unknown): string {
  const code = typeof error === 'object' && error !== null && 'code' in error ? error.code : undefined;
  return typeof code === 'string' ? code : '';
}
