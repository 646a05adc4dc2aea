// Runs test/support/traffic.cc between two namespaces and reads what it printed.

import { type Lab, type Task, waitFor } from './lab.js';

const SINK_PORT = 9901;
const ECHO_PORT = 9902;

/** Round trips of one connection, in microseconds. */
export interface RoundTrips {
  readonly count: number;
  readonly p50Us: number;
  readonly p99Us: number;
  readonly p999Us: number;
}

/** One step of a rising rate. */
export interface Step {
  readonly sentPerSecond: number;
  /** Share of the datagrams that did not arrive, 0 to 1. */
  readonly loss: number;
}

export interface RampOptions {
  /** Payload of a datagram in bytes, at least 4. */
  readonly bytes: number;
  readonly flows: number;
  readonly stepMs: number;
  /** Packets per second of the first step and bound of the last. */
  readonly low: number;
  readonly high: number;
}

/** The compiled load generator. */
export class Traffic {
  readonly #lab: Lab;
  readonly #program: string;

  private constructor(lab: Lab, program: string) {
    this.#lab = lab;
    this.#program = program;
  }

  /** Compiles it into the lab's directory. */
  static build(lab: Lab): Traffic {
    return new Traffic(lab, lab.compile('test/support/traffic.cc'));
  }

  /** A TCP server at an address of the namespace that sends back what comes; it ends with the lab. */
  startEcho({ ns, ip }: { readonly ns: string; readonly ip: string }): Promise<Task> {
    return this.#lab.spawnUntil(ns, this.#program, ['echo', ip, String(ECHO_PORT)], /listening/);
  }

  /** Sends at a rising rate; the last steps that arrived whole show what the path can do. */
  async ramp(from: string, to: { ns: string; ip: string }, options: RampOptions): Promise<Step[]> {
    const args = ['sink', to.ip, String(SINK_PORT)];
    const sink = await this.#lab.spawnUntil(to.ns, this.#program, args, /listening/);
    const { bytes, flows, stepMs, low, high } = options;
    const numbers = [SINK_PORT, bytes, flows, stepMs, low, high].map(String);
    const { stdout } = await this.#lab.run(from, this.#program, ['ramp', to.ip, ...numbers]);
    // What is still in queues belongs to the last step.
    await new Promise((resolve) => setTimeout(resolve, 200));
    await this.#lab.end(sink);
    await waitFor(() => sink.log().includes('received'), 'the sink to count');
    const { received } = JSON.parse(sink.log().split('\n')[1]) as { received: number[] };
    const { steps } = JSON.parse(stdout) as { steps: { sent: number; ns: number }[] };
    return steps.map(({ sent, ns }, i) => ({
      sentPerSecond: (sent * 1e9) / ns,
      loss: sent === 0 ? 0 : Math.max(0, 1 - received[i] / sent),
    }));
  }

  /** Requests of `bytes`, one at a time, for `ms`. */
  async roundTrips(from: string, ip: string, bytes: number, ms: number): Promise<RoundTrips> {
    const args = ['rr', ip, String(ECHO_PORT), String(bytes), String(ms)];
    const { stdout } = await this.#lab.run(from, this.#program, args);
    const times = JSON.parse(stdout) as Record<'count' | 'p50' | 'p99' | 'p999', number>;
    return {
      count: times.count,
      p50Us: times.p50 / 1000,
      p99Us: times.p99 / 1000,
      p999Us: times.p999 / 1000,
    };
  }

  /** Connections a second, one at a time, for `ms`: connect, a byte there and back, reset. */
  async connections(from: string, ip: string, ms: number): Promise<number> {
    const args = ['connect', ip, String(ECHO_PORT), String(ms)];
    const { stdout } = await this.#lab.run(from, this.#program, args);
    const { count, ns } = JSON.parse(stdout) as { count: number; ns: number };
    return (count * 1e9) / ns;
  }
}

/** Highest rate, in packets a second, at which no more than `loss` of a step was lost; 0 if every step lost more. */
export function highestRate(steps: readonly Step[], loss = 0.005): number {
  return Math.max(0, ...steps.filter((step) => step.loss <= loss).map((step) => step.sentPerSecond));
}
