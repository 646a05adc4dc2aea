// How a process comes to what it may take over, and how one that leaves its data path takes it back.

import type { Logger } from '../core/log.js';
import { native } from '../native/native.js';
import { CrashRecord } from './crash-record.js';
import { namedDescriptors } from './descriptors.js';
import type { LeftDataPath, Predecessor } from './handover.js';
import { takeOver } from './predecessor.js';
import { ProcessHandover } from './process-handover.js';
import { inheritedDescriptors, serviceManagerStore } from './service-manager.js';

/** As main() ends with E_RUNNING. */
const EXIT_FAILURE = 1;

/**
 * What the service manager has kept; or with `controlSocket`, what the daemon there works with, if there is one.
 *
 * @throws OverlayError E_RUNNING when that daemon does not let go.
 */
export function openHandover(
  controlSocket: string | undefined,
  log: Logger,
  inherited = inheritedDescriptors(process.env),
): ProcessHandover {
  const store = serviceManagerStore(process.env);
  const crashes = CrashRecord.open(inherited, store);
  const onLate = (): void => {
    log.fatal({ code: 'E_RUNNING' }, 'The daemon before this one goes on: this one was not ready in time');
    crashes.ended();
    // Nothing is closed in order: workers might begin meanwhile.
    native.exitNow(EXIT_FAILURE);
  };
  const taken = controlSocket === undefined ? undefined : takeOver(controlSocket, log, onLate);
  if (taken === undefined) return new ProcessHandover(inherited, { store, crashes });
  new ProcessHandover(inherited, { store }).close(); // of a run before the one that forwards now
  const { descriptors, predecessor } = taken;
  return new ProcessHandover(descriptors, { store, predecessor, crashes });
}

/** A data path that was left to another daemon, with descriptors that stay open until they are used or closed. */
export class ReturnableDataPath implements LeftDataPath {
  readonly device: string;
  readonly descriptors: LeftDataPath['descriptors'];
  readonly #path: LeftDataPath;
  readonly #copies: Map<string, number>;
  #told: Promise<unknown> | undefined;

  constructor(path: LeftDataPath) {
    this.#path = path;
    this.device = path.device;
    this.descriptors = path.descriptors;
    this.#copies = new Map(
      namedDescriptors(path.device, path.descriptors).map(([name, fd]) => [
        name,
        native.ownDescriptor(fd, true),
      ]),
    );
  }

  /** Idempotent. */
  stop(): Promise<unknown> {
    return (this.#told ??= this.#path.stop());
  }

  /** The other daemon has it. */
  close(): void {
    new ProcessHandover(this.#copies).close();
  }

  /** The other daemon is gone: this process goes on with it, as one that takes over from itself. */
  takeBack(): ProcessHandover {
    const predecessor: Predecessor = { stop: () => this.stop(), gone: new Promise(() => undefined) };
    return new ProcessHandover(this.#copies, { store: serviceManagerStore(process.env), predecessor });
  }
}
