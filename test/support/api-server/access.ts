// Who asks, and whether they may: bearer tokens, client certificates, and rules of verbs and resources.
//
// A request without credentials is system:anonymous, who may do nothing here but ask for health. A token that is
// revoked is answered as any other that is not known; watches that are open go on.

import { randomBytes } from 'node:crypto';
import { forbidden, forbiddenPath, unauthorized } from './failures.js';
import type { RequestInfo } from './request-info.js';

/** Verbs on resources ("nodes/status"), as a rule of a ClusterRole; "*" stands for all. */
export interface Rule {
  readonly verbs: readonly string[];
  readonly resources: readonly string[];
}

export const ADMIN = 'kubernetes-admin';
export const NOBODY = 'nobody';
export const FLANNEL = 'system:serviceaccount:kube-flannel:flannel';

/** What the ClusterRole of flannel's manifest allows. */
export const FLANNEL_RULES: readonly Rule[] = [
  { verbs: ['get'], resources: ['pods'] },
  { verbs: ['get', 'list', 'watch'], resources: ['nodes'] },
  { verbs: ['patch'], resources: ['nodes/status'] },
];

const ANONYMOUS = 'system:anonymous';
/** What everybody may ask for, who they are or not. */
export const PUBLIC_PATHS = ['/healthz', '/livez', '/readyz', '/version'];

/** What the transport knows of the client. */
export interface Credentials {
  /** The header as it came. */
  readonly authorization: string | undefined;
  /** Common name of a client certificate that the server trusts. */
  readonly certificateName: string | undefined;
}

export class Access {
  /** By user. */
  readonly #rules = new Map<string, readonly Rule[]>([
    [ADMIN, [{ verbs: ['*'], resources: ['*'] }]],
    [FLANNEL, FLANNEL_RULES],
    [NOBODY, []],
  ]);
  /** Users by token. */
  readonly #tokens = new Map<string, string>();
  /** Whether requests without credentials are refused as 401 instead of 403. */
  refusesAnonymous = false;

  /** Replaces what the user was allowed. */
  allow(user: string, rules: readonly Rule[]): void {
    this.#rules.set(user, rules);
  }

  /** A new token of a user. */
  issueToken(user: string): string {
    const token = randomBytes(24).toString('base64url');
    this.#tokens.set(token, user);
    return token;
  }

  /** Makes a text of the caller's choice a token. */
  addToken(token: string, user: string): void {
    this.#tokens.set(token, user);
  }

  revokeToken(token: string): void {
    this.#tokens.delete(token);
  }

  /** The name of the user; throws ApiFailure (401). */
  authenticate({ authorization, certificateName }: Credentials): string {
    if (certificateName !== undefined) return certificateName;
    if (authorization === undefined) {
      if (this.refusesAnonymous) throw unauthorized();
      return ANONYMOUS;
    }
    const user = this.#tokens.get(/^Bearer +(\S+)$/i.exec(authorization)?.[1] ?? '');
    if (user === undefined) throw unauthorized();
    return user;
  }

  /** Throws ApiFailure (403). */
  authorize(user: string, request: RequestInfo): void {
    const { verb, ruleName, name, namespace, path, method } = request;
    const rules = this.#rules.get(user) ?? [];
    if (ruleName === undefined) {
      if (PUBLIC_PATHS.includes(path) || rules.some(({ verbs }) => verbs.includes('*'))) return;
      throw forbiddenPath(user, method.toLowerCase(), path);
    }
    const allows = (list: readonly string[], item: string): boolean =>
      list.includes('*') || list.includes(item);
    if (rules.some(({ verbs, resources }) => allows(verbs, verb) && allows(resources, ruleName))) return;
    const scope = namespace === undefined ? 'at the cluster scope' : `in the namespace "${namespace}"`;
    throw forbidden(user, verb, ruleName, name, scope);
  }
}
