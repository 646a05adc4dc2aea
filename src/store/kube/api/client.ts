// The API server, as far as the store asks it: single objects, lists that are streamed, and watches.
//
//   node mirror, own node ─► KubeClient ─► transport ─► API server
//
// A client makes one attempt per call and no more: when and whether to try again is the business of who asked, who also
// knows what a fault means for it (faults.ts). Paths are absolute ("/api/v1/nodes/NAME/status"); a path prefix that the
// server's URL has is put before them.

/** A JSON object of the API, as it came. Nothing in it is checked. */
export type ApiObject = Readonly<Record<string, unknown>>;

/** One line of a watch. A line that tells of an error is no event: the watch ends with it. */
export interface WatchEvent {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK';
  readonly object: ApiObject;
}

/** What stands around the items of a list. */
export interface ListEnd {
  /** Where a watch goes on; "" when the server told none. */
  readonly resourceVersion: string;
  /** For the next page; undefined after the last. */
  readonly continueToken: string | undefined;
}

/** Parameters of a request, not yet encoded. */
export type Query = Readonly<Record<string, string>>;

/** Told of a watch, in order and on the main thread. What a listener throws ends the watch with that. */
export interface WatchListener {
  /** Once, when the server has accepted the watch; before the first event. */
  onOpen(): void;
  onEvent(event: WatchEvent): void;
}

/** What need not be told, where it saves work. */
export interface LeanOptions {
  /** Objects may come without their status, but that of this name. @default undefined: all are whole */
  readonly statusOf?: string | undefined;
}

export interface ListOptions extends LeanOptions {
  /** Asks for a PartialObjectMetadataList: items have no spec and no status. @default false */
  readonly metadataOnly?: boolean;
}

/**
 * A way to one API server. Every call rejects with KubeFault, or with the signal's reason when that aborts first: the
 * server may then still carry it out. A 401 was tried again with credentials read anew before it is told.
 */
export interface KubeClient {
  /** For people, without credentials: "https://10.96.0.1:443". */
  readonly server: string;
  /** Whether something listens there, or at the proxy before it: bare TCP, within 50 ms after names are resolved. */
  isListening(): Promise<boolean>;
  /** One object, at most 8 MiB, within 10 s; the same bounds hold for `patch` and `create`. */
  get(path: string, signal: AbortSignal): Promise<ApiObject>;
  /** A strategic merge patch; resolves to the object after it. */
  patch(path: string, patch: ApiObject, signal: AbortSignal): Promise<ApiObject>;
  /** Resolves to the object as the server made it. */
  create(path: string, object: ApiObject, signal: AbortSignal): Promise<ApiObject>;
  /**
   * Calls `onItem` for each item, in order, as they come; the whole is never held. Items that were told before a fault
   * are no list: an answer that is cut off rejects, however cleanly its stream ended. 30 s without a byte are a fault.
   */
  list(
    path: string,
    query: Query,
    onItem: (item: ApiObject) => void,
    signal: AbortSignal,
    options?: ListOptions,
  ): Promise<ListEnd>;
  /**
   * Resolves when the server ended the stream cleanly. Rejects with KubeFault, also for an ERROR event, whose code is
   * then the status. A connection that is dead is noticed within 20 s; a server that is just silent is not.
   */
  watch(
    path: string,
    query: Query,
    listener: WatchListener,
    signal: AbortSignal,
    options?: LeanOptions,
  ): Promise<void>;
  /**
   * The host has another address, or files were replaced: requests under way and watches end with a fault ("broken"),
   * the next ones use a new connection.
   */
  renew(): void;
  /** Requests under way end with a fault ("closed"), as does every later one. Idempotent. */
  close(): void;
}
