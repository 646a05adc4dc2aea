#!/usr/bin/env node
// The program behind `twilld` and `flanneld`: signals, exit codes, and nothing else.
//
// Modules are loaded only after the signal handlers stand: without a handler of ours, SIGUSR1 would make Node open its
// inspector on a TCP port, which is a way to run code as this process.

import { setFlagsFromString } from 'node:v8';

// By default V8 lets up to 256 MB of garbage lie before it collects it, and the memory of this host is for its
// containers. So it collects early, and keeps new objects in a space of 2 MB. The packet loops make no garbage.
const NO_GROWTH = '--semi-space-growth-factor=1';
for (const flag of ['--optimize-for-size', '--max-semi-space-size=1', NO_GROWTH]) setFlagsFromString(flag);
// Whenever a thread gets its heap, V8 sets that factor to 2 for all of them (Heap::ConfigureHeap), and the first 65,000
// leases would make this one's space for new objects 16 MB.
process.on('worker', (worker) => worker.once('online', () => setFlagsFromString(NO_GROWTH)));

/** Exit codes; docs/operations.md lists them. */
const EXIT_FAILURE = 1;
const EXIT_USAGE = 2;
const EXIT_LEASE_LOST = 3;
/** Another daemon has taken over: for a service manager, which would start this one again. */
const EXIT_REPLACED = 4;
const EXIT_BUG = 70; // EX_SOFTWARE, sysexits(3)

const stop = new AbortController();

function onStopSignal(signal: NodeJS.Signals): void {
  if (stop.signal.aborted) process.exit(128 + (signal === 'SIGINT' ? 2 : 15));
  stop.abort();
}

// There is nothing to reload: files and certificates are read again when they change. Without a handler, each of these
// signals would end the process.
for (const ignored of ['SIGHUP', 'SIGUSR1', 'SIGUSR2', 'SIGALRM', 'SIGPIPE'] as const)
  process.on(ignored, () => undefined);
process.on('SIGINT', onStopSignal);
process.on('SIGTERM', onStopSignal);

const { OverlayError } = await import('./core/errors.js');
const { parseFlags } = await import('./config/flag-parser.js');
const { openLogger } = await import('./core/log.js');
const { readVersion } = await import('./core/version.js');

function exitCodeOf(error: unknown): number {
  if (!(error instanceof OverlayError)) return EXIT_BUG;
  if (error.code === 'E_USAGE') return EXIT_USAGE;
  return error.code === 'E_LEASE_LOST' ? EXIT_LEASE_LOST : EXIT_FAILURE;
}

/**
 * exit() joins the threads in which names are resolved and files read, and waits for a dead name server for seconds.
 * With the addon it does not. Without it, which the modes of the kernel work without, the end is merely slow.
 */
async function endWithoutJoining(): Promise<void> {
  try {
    const { native } = await import('./native/native.js');
    process.once('exit', (code) => {
      const isBusy = process.getActiveResourcesInfo().some((name) => /^(?:GetAddrInfo|FS)Req/.test(name));
      if (isBusy) native.exitNow(code);
    });
  } catch {
    // The udp mode says what is missing.
  }
}

/** What a standby process is given to become the daemon, or "none" when it is not needed; undefined for any other. */
async function inheritedOfStandby(
  preload: () => Promise<void>,
): Promise<Map<string, number> | 'none' | undefined> {
  const stream = process.env['TWILL_STANDBY'];
  if (stream === undefined) return undefined;
  delete process.env['TWILL_STANDBY'];
  await preload();
  const { waitAsStandby } = await import('./handover/standby.js');
  return waitAsStandby(Number(stream)) ?? 'none';
}

async function main(): Promise<number> {
  let parsed;
  try {
    parsed = parseFlags(process.argv.slice(2), process.env);
  } catch (error) {
    if (!(error instanceof OverlayError)) throw error;
    process.stderr.write(`${error.message}\n`);
    return exitCodeOf(error);
  }
  if (parsed.kind === 'help') {
    process.stderr.write(parsed.text);
    return 0;
  }
  if (parsed.kind === 'version') {
    process.stdout.write(`${readVersion()}\n`);
    return 0;
  }
  const { flags, warnings } = parsed;
  const { verbosity, format } = flags.log;
  const log = openLogger({ level: verbosity > 0 ? 'debug' : 'info', format });
  // The process that a standby stands by for has said them.
  if (process.env['TWILL_STANDBY'] === undefined) for (const warning of warnings) log.warn(warning);
  const onBug = (error: unknown): void => {
    log.fatal({ err: error }, 'internal error');
    process.exit(EXIT_BUG);
  };
  process.on('uncaughtException', onBug);
  process.on('unhandledRejection', onBug);
  await endWithoutJoining();
  try {
    const { preload, runDaemon } = await import('./daemon.js');
    const inherited = await inheritedOfStandby(() => preload(flags));
    if (inherited === 'none') return 0;
    const isManaged = (process.env['NOTIFY_SOCKET'] ?? '') !== '';
    const end = await runDaemon(flags, log, readVersion(), stop.signal, { inherited });
    log.info('stopped');
    return end === 'replaced' && isManaged ? EXIT_REPLACED : 0;
  } catch (error) {
    if (error instanceof OverlayError) log.fatal({ code: error.code }, error.message);
    else log.fatal({ err: error }, 'internal error');
    return exitCodeOf(error);
  }
}

process.exit(await main());
