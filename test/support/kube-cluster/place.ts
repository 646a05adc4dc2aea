// Where the servers of a cluster run: on loopback, or in a network namespace of a lab.
//
// The test itself runs outside the lab's namespaces. What it asks the API server goes through a Unix socket, which no
// network namespace hides, and socat inside the namespace passes it on.

import { execFile, spawn } from 'node:child_process';
import { mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { cleanEnvironment, type Lab, type Output, type RunOptions, type Task, waitFor } from '../lab.js';

export interface Place {
  /** IPv4 address of the API server, as clients reach it. */
  readonly address: string;
  /** For files of the cluster's; removed with the place. */
  readonly dir: string;
  /** Starts a server. It ends with this process at the latest. */
  spawn(command: string, args: readonly string[]): Task;
  /** Runs a program beside the servers to its end. */
  run(command: string, args: readonly string[], options?: RunOptions): Promise<Output>;
  /** Path of a Unix socket that leads to a TCP port of `address`; undefined when that can be reached as it is. */
  relay(port: number): Promise<string | undefined>;
  remove(): void;
}

/** Loopback of this machine; needs no root. */
export function onLoopback(): Place {
  const dir = mkdtempSync(join(tmpdir(), `twill-kube-${process.pid}-`));
  let count = 0;
  // NODE_OPTIONS goes here, for a test runner puts its own back into any environment.
  const words = (command: string, args: readonly string[]): string[] => [
    ...['--pdeathsig', 'KILL', 'env', '-u', 'NODE_OPTIONS', command],
    ...args,
  ];
  return {
    address: '127.0.0.1',
    dir,
    spawn(command, args) {
      const logPath = join(dir, `${++count}-${command.split('/').pop()}.log`);
      const out = openSync(logPath, 'w');
      const child = spawn('setpriv', words(command, args), {
        env: cleanEnvironment(),
        stdio: ['ignore', out, out],
      });
      const exited = new Promise<number>((resolve) =>
        child.once('exit', (code, signal) => resolve(code ?? (signal === null ? -1 : 128))),
      );
      return { child, logPath, log: () => readFileSync(logPath, 'utf8'), exited };
    },
    run(command, args, { timeoutMs = 60_000, input, mustSucceed = true, env = {} } = {}) {
      return new Promise((resolve, reject) => {
        const child = execFile(
          'setpriv',
          words(command, args),
          { timeout: timeoutMs, killSignal: 'SIGKILL', maxBuffer: 64 << 20, env: cleanEnvironment(env) },
          (error, stdout, stderr) => {
            const code = error === null ? 0 : typeof error.code === 'number' ? error.code : 137;
            if (code === 0 || !mustSucceed) resolve({ stdout, stderr, code });
            else reject(new Error(`${command} ${args.join(' ')}: exit ${code}\n${stdout}${stderr}`));
          },
        );
        child.stdin?.end(input);
      });
    },
    relay: () => Promise.resolve(undefined),
    remove: () => rmSync(dir, { recursive: true, force: true }),
  };
}

/** A namespace `kube` of the lab, on its switch as 172.20.0.<index>. */
export function inLab(lab: Lab, index = 240): Place {
  const ns = lab.addServer('kube', index);
  const dir = mkdtempSync(join(lab.dir, 'kube-'));
  const address = `172.20.0.${index}`;
  return {
    address,
    dir,
    spawn: (command, args) => lab.spawn(ns, command, args),
    run: (command, args, options) => lab.run(ns, command, args, options),
    async relay(port) {
      const path = join(dir, `${port}.sock`);
      const task = lab.spawn(ns, 'socat', [`UNIX-LISTEN:${path},fork`, `TCP:${address}:${port}`]);
      const isThere = async (): Promise<boolean> =>
        (await lab.run(ns, 'test', ['-S', path], { mustSucceed: false })).code === 0;
      await waitFor(isThere, `socat to listen\n${task.log()}`);
      return path;
    },
    remove: () => rmSync(dir, { recursive: true, force: true }),
  };
}
