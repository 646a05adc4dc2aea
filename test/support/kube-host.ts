// A host of a lab beside a stand-in of the Kubernetes API server, with files that are good, of which a test replaces
// what it wants to be bad.
//
//   API server 172.20.0.240 ─── host 1, the node "good" with 10.244.1.0/24

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Test } from 'tap';
import { ApiServerProcess } from './api-server-process.js';
import type { NodeParts } from './api-server.js';
import { udpAnnotations } from './kube-nodes.js';
import { DAEMON, type Host, Lab, type Task, waitFor } from './lab.js';
import { HEALTH_PORT, statusOf } from './twill-hosts.js';

const PREFIX = 'flannel.alpha.coreos.com/';
/** Of the API server. */
export const ADDRESS = '172.20.0.240';
export const NET_CONF = { Network: '10.244.0.0/16', Backend: { Type: 'udp' } };

/** What of a good start is another. */
export interface Start {
  /** Variables. @default NODE_NAME=good */
  readonly env?: readonly string[];
  readonly kubeconfig?: string;
  readonly netConf?: string;
  readonly extra?: readonly string[];
}

/** A host, an API server, and files that are good. */
export class KubeHost {
  readonly lab: Lab;
  readonly api: ApiServerProcess;
  readonly host: Host;
  readonly dir: string;

  private constructor(lab: Lab, api: ApiServerProcess, dir: string) {
    this.lab = lab;
    this.api = api;
    this.host = lab.addHost(1);
    this.dir = dir;
    this.file('net-conf.json', JSON.stringify(NET_CONF));
  }

  static async open(t: Test, name: string): Promise<KubeHost> {
    const lab = Lab.open(name);
    t.teardown(() => lab.close());
    const dir = join(lab.dir, 'api');
    const options = { dir, address: ADDRESS, port: 6443 };
    const { api } = await ApiServerProcess.openIn(lab, lab.addServer('kube', 240), options);
    const made = new KubeHost(lab, api, dir);
    await made.node('good', { podCidrs: ['10.244.1.0/24'] });
    return made;
  }

  /** Writes a file; its path. */
  file(name: string, text: string): string {
    const path = join(this.dir, name);
    writeFileSync(path, text);
    return path;
  }

  node(name: string, parts: NodeParts = {}): Promise<unknown> {
    return this.api.do('createNode', name, parts);
  }

  words({ env, kubeconfig, netConf, extra = [] }: Start): string[] {
    const flags = [
      `--kubeconfig-file=${kubeconfig ?? join(this.dir, 'flannel.kubeconfig')}`,
      `--net-config-path=${netConf ?? join(this.dir, 'net-conf.json')}`,
      '--iface=eth0',
      `--subnet-file=${join(this.host.dir, 'subnet.env')}`,
      '--healthz-ip=127.0.0.1',
      `--healthz-port=${HEALTH_PORT}`,
    ];
    const shown = flags.filter((flag) => !flag.endsWith('='));
    return [
      ...(env ?? ['NODE_NAME=good']),
      process.execPath,
      DAEMON,
      '--kube-subnet-mgr',
      ...shown,
      ...extra,
    ];
  }

  /** The start ends with `code`, and one line says why. */
  async ends(t: Test, start: Start, code: number, message: RegExp): Promise<void> {
    const result = await this.lab.run(this.host.ns, 'env', this.words(start), {
      mustSucceed: false,
      timeoutMs: 20_000,
    });
    t.equal(result.code, code, 'exit code');
    const lines = result.stderr.split('\n').filter((line) => message.test(line));
    t.equal(lines.length, 1, `one line says ${message}`);
    if (lines.length !== 1) t.comment(result.stderr);
    t.notMatch(result.stderr, /\n\s+at /, 'no stack trace');
  }

  /** The start goes on waiting: a line and a condition say for what. SIGTERM ends it within a second. */
  async waits(t: Test, start: Start, condition: string, message: RegExp): Promise<void> {
    const daemon = await this.lab.spawnUntil(this.host.ns, 'env', this.words(start), message);
    await waitFor(async () => (await this.conditions()).includes(condition), `the condition ${condition}`);
    t.equal(daemon.child.exitCode, null, 'it waits');
    await this.endsInTime(t, daemon);
  }

  async conditions(): Promise<string[]> {
    return (await statusOf(this.lab, this.host)).conditions.map(({ code }) => code);
  }

  async endsInTime(t: Test, daemon: Task): Promise<void> {
    const startedMs = Date.now();
    t.equal(await this.lab.end(daemon), 0, 'SIGTERM ends it with 0');
    const tookMs = Date.now() - startedMs;
    t.ok(tookMs < 1000, `within ${tookMs} ms`);
    t.notMatch(daemon.log(), /\n\s+at /, 'no stack trace');
  }
}

/** Annotations of a member, with others in their place. */
export function member(
  publicIp: string,
  more: Readonly<Record<string, string>> = {},
): Record<string, string> {
  const all = Object.entries({ ...udpAnnotations(publicIp), ...more });
  return Object.fromEntries(all.map(([name, value]) => [PREFIX + name, value]));
}
