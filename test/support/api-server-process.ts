// The stand-in API server in a process of its own: in a lab's network namespace, or beside a test that measures.

import { spawn } from 'node:child_process';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { Command, Controls, Outcome } from './api-server/controls.js';
import type { ProgramOptions } from './api-server/main.js';
import { cleanEnvironment, type Lab, type Task } from './lab.js';

const TSX = import.meta.resolve('tsx');
const MAIN = fileURLToPath(new URL('./api-server/main.ts', import.meta.url));
const LISTENING = /^listening on (\S+)$/m;

/** The command that runs it. */
function commandOf(options: ProgramOptions): string[] {
  return ['--import', TSX, MAIN, JSON.stringify(options)];
}

/** A stand-in that runs elsewhere, and what may be done to it. */
export class ApiServerProcess {
  readonly url: string;
  /** With `serviceaccount/`, `<user>.kubeconfig` and `<user>.token` for admin, flannel and nobody. */
  readonly dir: string;
  readonly #socket: Socket;
  readonly #waiting = new Map<number, (outcome: Outcome) => void>();
  readonly #end: () => Promise<unknown>;
  #count = 0;

  private constructor(url: string, dir: string, socket: Socket, end: () => Promise<unknown>) {
    this.url = url;
    this.dir = dir;
    this.#socket = socket;
    this.#end = end;
    createInterface({ input: socket }).on('line', (line) => {
      const outcome = JSON.parse(line) as Outcome;
      this.#waiting.get(outcome.id)?.(outcome);
      this.#waiting.delete(outcome.id);
    });
    const fail = (): void => {
      for (const [id, settle] of this.#waiting) settle({ id, error: 'the stand-in has ended' });
    };
    socket.on('error', fail);
    socket.on('close', fail);
  }

  /** In a namespace of a lab, with which it ends. The task is there to be stopped and killed. */
  static async openIn(
    lab: Lab,
    ns: string,
    options: ProgramOptions,
  ): Promise<{ api: ApiServerProcess; task: Task }> {
    const task = await lab.spawnUntil(ns, process.execPath, commandOf(options), LISTENING);
    const [, url] = LISTENING.exec(task.log())!;
    const api = await ApiServerProcess.#attach(url, options.dir, () => lab.end(task));
    return { api, task };
  }

  /** Beside us. */
  static async open(options: ProgramOptions): Promise<ApiServerProcess> {
    const child = spawn(process.execPath, commandOf(options), {
      env: cleanEnvironment(),
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
    const url = await new Promise<string>((resolve, reject) => {
      createInterface({ input: child.stdout }).on('line', (line) => {
        const found = LISTENING.exec(line);
        if (found !== null) resolve(found[1]);
      });
      void exited.then(() => reject(new Error('the stand-in ended before it listened')));
    });
    return ApiServerProcess.#attach(url, options.dir, async () => {
      child.kill('SIGTERM');
      await exited;
    });
  }

  static async #attach(url: string, dir: string, end: () => Promise<unknown>): Promise<ApiServerProcess> {
    const socket = connect(join(dir, 'control.sock'));
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', reject);
    });
    return new ApiServerProcess(url, dir, socket, end);
  }

  /** Rejects with what the stand-in says when the command fails. */
  async do<K extends keyof Controls>(
    name: K,
    ...args: Parameters<Controls[K]>
  ): Promise<Awaited<ReturnType<Controls[K]>>> {
    const command: Command = { id: ++this.#count, do: name, with: args };
    const outcome = await new Promise<Outcome>((resolve) => {
      this.#waiting.set(command.id, resolve);
      this.#socket.write(`${JSON.stringify(command)}\n`);
    });
    if (outcome.error !== undefined) throw new Error(`${name}: ${outcome.error}`);
    return outcome.result as Awaited<ReturnType<Controls[K]>>;
  }

  async close(): Promise<void> {
    this.#socket.destroy();
    await this.#end();
  }
}
