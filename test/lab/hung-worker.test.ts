// A worker thread that stands still, as one that hangs in the kernel does: a debugger stops that thread alone.

import { spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import t from 'tap';
import { Lab, labUnavailable, waitFor } from '../support/lab.js';
import { HEALTH_PORT, startCluster } from '../support/twill-hosts.js';

// PTRACE_SEIZE, PTRACE_INTERRUPT and __WALL, ptrace(2). The thread goes on when its tracer ends,
// and when it dies its tracer must wait for it, or the process would not end.
const FREEZE = `
import ctypes, os, sys, threading
ptrace = ctypes.CDLL(None, use_errno=True).ptrace
ptrace.argtypes = [ctypes.c_long] * 4
thread = int(sys.argv[1])
for request in (0x4206, 0x4207):
    if ptrace(request, thread, 0, 0) != 0: sys.exit(os.strerror(ctypes.get_errno()))
os.waitpid(thread, 0x40000000)
print('frozen', flush=True)
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
os.waitpid(thread, 0x40000000)`;

/** Stops the thread of that name; resolves, once it stands still, with what lets it go on. */
async function freeze(pid: number, name: string): Promise<() => Promise<void>> {
  const thread = readdirSync(`/proc/${pid}/task`).find(
    (id) => readFileSync(`/proc/${pid}/task/${id}/comm`, 'utf8').trim() === name,
  );
  if (thread === undefined) throw new Error(`no thread ${name}`);
  const tracer = spawn('python3', ['-c', FREEZE, thread], { stdio: ['pipe', 'pipe', 'inherit'] });
  const exited = new Promise<void>((resolve) => tracer.once('exit', () => resolve()));
  await new Promise<void>((resolve, reject) => {
    tracer.stdout.once('data', () => resolve());
    tracer.once('exit', () => reject(new Error('cannot trace')));
  });
  return async () => {
    tracer.stdin.end();
    await exited;
  };
}

t.test(
  'a worker that hangs is noticed, and does not hold up the end',
  { skip: labUnavailable() },
  async (t) => {
    const lab = Lab.open('hung-');
    t.teardown(() => lab.close());
    const { hosts, daemons } = await startCluster(lab, 2, ['--lane=off']);
    const [a, b] = hosts;
    const { pid } = daemons[0].child;
    const ready = async (): Promise<{ status: number; body: string }> =>
      await lab.get(a.ns, `http://127.0.0.1:${HEALTH_PORT}/readyz`);
    const reaches = async (): Promise<boolean> =>
      (await lab.run(a.containerNs, 'ping', ['-c', '1', '-W', '1', b.containerIp], { mustSucceed: false }))
        .code === 0;

    for (const direction of ['outbound', 'inbound']) {
      const goOn = await freeze(pid!, `${direction}-0`);
      t.teardown(goOn);
      const startedMs = Date.now();
      await waitFor(async () => (await ready()).status === 503, 'the truth about it', 6_000);
      const ms = Date.now() - startedMs;
      t.ok(ms > 1_500 && ms < 5_500, `noticed after ${ms} ms`);
      t.match((await ready()).body, new RegExp(`${direction} worker of queue 0 does not move`));
      t.notOk(await reaches());
      await goOn();
      await waitFor(async () => (await ready()).status === 200, 'readiness');
      t.ok(await reaches());
      t.match(daemons[0].log(), new RegExp(`${direction} worker of queue 0 moves again`));
    }

    const goOn = await freeze(pid!, 'outbound-0');
    t.teardown(goOn);
    const startedMs = Date.now();
    t.equal(await lab.end(daemons[0]), 0, 'SIGTERM ends it as ever');
    t.ok(Date.now() - startedMs < 1_500, `within ${Date.now() - startedMs} ms`);
    t.match(daemons[0].log(), /outbound worker of queue 0 does not end/);
  },
);
