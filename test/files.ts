// Runs test files side by side and tells of them as one TAP stream: tsx test/files.ts JOBS TIMEOUT_SECONDS FILE...
//
// It is what `tap FILE...` does, but that each file is run by `node --import tsx`: the loaders that tap puts into every
// process, for mocks, coverage and sources, cost two seconds of CPU a file, and no test uses them. `npx tap FILE` runs
// a file all the same.

import type { ChildProcess } from 'node:child_process';
import t from 'tap';

const [jobs, timeoutSeconds, ...files] = process.argv.slice(2);

/** A file leads a process group, so that what it started ends with it: after a timeout nobody else would end that. */
function endGroup({ pid }: ChildProcess): void {
  try {
    process.kill(-pid!, 'SIGKILL');
  } catch {
    // none is left, as it should be
  }
}

t.jobs = Number(jobs);
t.setTimeout(0); // there is one for each file
const running = new Set<ChildProcess>();
t.on('spawn', (file) => {
  file.on('preprocess', (options) => Object.assign(options, { detached: true }));
  file.on('process', (child) => {
    running.add(child);
    child.once('exit', () => {
      endGroup(child);
      running.delete(child);
    });
  });
});
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.once(signal, () => {
    for (const child of running) endGroup(child);
    process.exit(1);
  });
}

// Loaded before tsx is there, which would look at each of its hundreds of modules. Workers have no use for it.
const TAP_FIRST = `data:text/javascript,${encodeURIComponent(`
  import { isMainThread } from 'node:worker_threads';
  if (isMainThread) await import(${JSON.stringify(import.meta.resolve('tap'))});`)}`;
const env = { ...process.env, TAP_TIMEOUT: timeoutSeconds };
for (const file of files) {
  // Tap's spawn sets NODE_OPTIONS, whose loader would come into the file and into all that it starts.
  const args = ['-u', 'NODE_OPTIONS', process.execPath, '--import', TAP_FIRST, '--import', 'tsx', file];
  const options = { env, timeout: Number(timeoutSeconds) * 1000, buffered: true, at: null, stack: '' };
  void t.spawn('env', args, options, file).then((results) => {
    // Tap takes a file without any assertion for one that is to be skipped.
    if (results?.ok === true && results.count === 0) t.fail(`${file} tests nothing`);
  });
}
