// etcd3's client, as far as it is used: one client for one endpoint, with one TCP connection, unary calls and streams.
//
// What etcd3 does of its own accord is switched off: it would retry writes, open a circuit breaker for 5 s, and share
// connections. It is loaded on first use: a start from the saved table must not wait for it.

import type { CallInvocationTransformer } from '@grpc/grpc-js';
import type {
  IDuplexStream,
  ILeaseGrantRequest,
  ILeaseGrantResponse,
  ILeaseRevokeRequest,
  ILeaseRevokeResponse,
  ILeaseTimeToLiveRequest,
  ILeaseTimeToLiveResponse,
  IOptions,
  IRangeRequest,
  IRangeResponse,
  IStatusResponse,
  ITxnRequest,
  ITxnResponse,
  IWatchRequest,
} from 'etcd3';
import type { Endpoint } from './endpoints.js';
import type { TlsMaterial } from './tls-files.js';
import { decodeWatchAnswer, type WatchAnswer } from './watch-codec.js';

/** Longest wait for the answer to one call (no request may hang longer than 5 s). */
export const CALL_TIMEOUT_MS = 5000;
/** Between two attempts to connect. */
export const MIN_BACKOFF_MS = 50;
export const MAX_BACKOFF_MS = 2000;
// 32 MiB: a page of 1,000 leases of the largest accepted size is 16 MiB; a page that exceeds it is asked for in parts.
const MAX_RECEIVE_BYTES = 32 * 1024 * 1024;

/** etcd3's raw watch stream, whose answers are read by us. */
export type WatchDuplex = IDuplexStream<IWatchRequest, WatchAnswer>;

/** Each call rejects with what gRPC or etcd3 says; faults.ts tells what that means. */
export interface EtcdClient {
  readonly kv: {
    range(request: IRangeRequest): Promise<IRangeResponse>;
    txn(request: ITxnRequest): Promise<ITxnResponse>;
  };
  readonly leases: {
    leaseGrant(request: ILeaseGrantRequest): Promise<ILeaseGrantResponse>;
    leaseRevoke(request: ILeaseRevokeRequest): Promise<ILeaseRevokeResponse>;
    leaseTimeToLive(request: ILeaseTimeToLiveRequest): Promise<ILeaseTimeToLiveResponse>;
  };
  readonly maintenance: { status(): Promise<IStatusResponse> };
  /** A watch stream, which the member ends when it loses its leader. */
  openWatch(): Promise<WatchDuplex>;
  /** Ends all calls and streams. Idempotent. */
  close(): void;
}

/** Never logged and never shown. */
export interface EtcdUser {
  readonly username: string;
  readonly password: string;
}

export interface ClientSettings {
  readonly endpoint: Endpoint;
  readonly user: EtcdUser | undefined;
  readonly tls: TlsMaterial | undefined;
  /** Whether the web proxy of the environment is asked for the way. */
  readonly usesProxy: boolean;
}

/** Makes a client; nothing is contacted before its first call. */
export type OpenClient = (settings: ClientSettings) => Promise<EtcdClient>;

export const openEtcd3: OpenClient = async (settings) => {
  const { Etcd3 } = await import('etcd3');
  const client = new Etcd3(optionsOf(settings));
  return {
    kv: client.kv,
    leases: client.leaseClient,
    maintenance: client.maintenance,
    openWatch: async () => {
      // Its type does not know of asWatch().
      const stream: unknown = await client.watchClient.watch();
      return stream as WatchDuplex;
    },
    close: () => client.close(),
  };
};

/**
 * The answers of a watch are not read by etcd3, which takes longer for each event than all that is done with it. The
 * metadata is set here, not by an interceptor: each message would pass through that.
 */
const asWatch: CallInvocationTransformer = (properties) => {
  const { methodDefinition } = properties;
  if (methodDefinition.path !== '/etcdserverpb.Watch/Watch') return properties;
  const metadata = properties.metadata.clone(); // etcd3 gives all calls the same
  // Clients that set this are told of a lost leader; others are left waiting for its return.
  metadata.set('hasleader', 'true');
  return {
    ...properties,
    metadata,
    methodDefinition: { ...methodDefinition, responseDeserialize: decodeWatchAnswer },
  };
};

function optionsOf({ endpoint, user, tls, usesProxy }: ClientSettings): IOptions {
  return {
    hosts: `${endpoint.isTls ? 'https' : 'http'}://${endpoint.target}`,
    ...(endpoint.isTls && tls !== undefined ? { credentials: tls } : {}),
    ...(user === undefined ? {} : { auth: { ...user } }),
    // A deadline is absolute, so it must be made for each call; streams have none.
    defaultCallOptions: (context) => (context.isStream ? {} : { deadline: Date.now() + CALL_TIMEOUT_MS }),
    faultHandling: { host: () => PASS_THROUGH, global: PASS_THROUGH },
    grpcOptions: {
      callInvocationTransformer: asWatch,
      'grpc.max_receive_message_length': MAX_RECEIVE_BYTES,
      'grpc.keepalive_time_ms': 10_000,
      'grpc.keepalive_timeout_ms': 3000,
      'grpc.keepalive_permit_without_calls': 1,
      'grpc.enable_retries': 0,
      'grpc.enable_http_proxy': usesProxy ? 1 : 0, // its default is 1, for loopback too
      'grpc.service_config_disable_resolution': 1, // no TXT look-ups for what etcd never publishes
      'grpc.initial_reconnect_backoff_ms': MIN_BACKOFF_MS,
      'grpc.max_reconnect_backoff_ms': MAX_BACKOFF_MS,
      // grpc-js shares TCP connections among channels with equal options. One session must never get the dead
      // connection of the one before, so each has a value of its own in an option that nothing reads.
      'twill.session': ++sessionSerial,
    },
  };
}

let sessionSerial = 0;

type Policy = NonNullable<NonNullable<IOptions['faultHandling']>['global']>;

const NEVER = new AbortController().signal;
const NO_EVENT = (): { dispose(): void } => ({ dispose: () => undefined });

/**
 * etcd3's retries and circuit breaker, switched off. What a task throws must come as a rejection: etcd3 relies on it.
 */
class PassThrough implements Policy {
  declare readonly _altReturn: never;
  readonly onSuccess = NO_EVENT;
  readonly onFailure = NO_EVENT;

  async execute<T>(task: (context: { signal: AbortSignal }) => PromiseLike<T> | T): Promise<T> {
    return task({ signal: NEVER });
  }
}

const PASS_THROUGH = new PassThrough();
