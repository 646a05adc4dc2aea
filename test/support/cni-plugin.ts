// The CNI plugin as a runtime runs it, with a delegate that records what it was asked.
//
// The environment variable TWILL_CNI names another build of it, as the one with sanitizers (test/native/cni.test.ts).

import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Test } from 'tap';
import { PROJECT_ROOT } from './lab.js';
import { folderOf } from './folder.js';

export const CNI_PLUGIN = process.env['TWILL_CNI'] ?? join(PROJECT_ROOT, 'build/Release/twill-cni');

/** A delegate that writes what it got, and answers as told by files beside it. */
const DELEGATE = `#!/bin/sh
here=$(dirname "$0")
if [ "$CNI_COMMAND" = VERSION ]; then cat "$here/version"; exit 0; fi
echo "$CNI_COMMAND $CNI_IFNAME" >> "$here/calls"
cat > "$here/stdin-$CNI_COMMAND"
if [ -e "$here/fails" ]; then cat "$here/fails"; exit 1; fi
if [ "$CNI_COMMAND" = ADD ]; then echo '{"cniVersion":"1.1.0","ips":[]}'; fi
`;

export interface CniAnswer {
  readonly code: number | null;
  readonly answer: Record<string, unknown> | undefined;
  readonly stdout: string;
}

export interface CniSandbox {
  readonly dir: string;
  /** A configuration that works. */
  readonly config: Readonly<Record<string, unknown>>;
  /** What the delegate was asked so far: "ADD eth0". */
  readonly calls: () => string[];
  /** What the delegate got on its stdin with a command, the last time. */
  readonly got: (command: string) => unknown;
  /** Runs the plugin; a configuration that is a string goes in as it is. */
  readonly run: (command: string, config?: object | string, env?: Record<string, string>) => CniAnswer;
}

/** A folder with a delegate, a subnet.env and a place for what is kept; it goes with the test. */
export function cniSandbox(t: Test): CniSandbox {
  const dir = folderOf(t, { bin: {}, data: {} });
  writeFileSync(join(dir, 'bin/bridge'), DELEGATE);
  chmodSync(join(dir, 'bin/bridge'), 0o755);
  writeFileSync(join(dir, 'bin/version'), '{"supportedVersions":["1.0.0","1.1.0"]}');
  const subnetFile = join(dir, 'subnet.env');
  writeFileSync(
    subnetFile,
    'FLANNEL_NETWORK=10.1.0.0/16\nFLANNEL_SUBNET=10.1.17.1/24\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=true\n',
  );
  const config = {
    cniVersion: '1.1.0',
    name: 'cbr0',
    type: 'flannel',
    subnetFile,
    dataDir: join(dir, 'data/made'),
  };
  return {
    dir,
    config,
    calls: () => {
      const path = join(dir, 'bin/calls');
      return existsSync(path) ? readFileSync(path, 'utf8').trim().split('\n') : [];
    },
    got: (command) => JSON.parse(readFileSync(join(dir, `bin/stdin-${command}`), 'utf8')) as unknown,
    run: (command, given = config, env = {}) => {
      const { status, stdout, stderr, error } = spawnSync(CNI_PLUGIN, [], {
        input: typeof given === 'string' ? given : JSON.stringify(given),
        encoding: 'utf8',
        env: {
          PATH: process.env['PATH'],
          CNI_COMMAND: command,
          CNI_CONTAINERID: 'pod-1',
          CNI_NETNS: '/run/netns/none',
          CNI_IFNAME: 'eth0',
          CNI_PATH: `/nowhere:${join(dir, 'bin')}`,
          ...env,
        },
      });
      // EPIPE is a plugin that did not read all of it.
      if (error !== undefined && !error.message.endsWith('EPIPE'))
        throw new Error(`${error.message}: npm run build:addon makes it`);
      if (stderr.includes('ERROR: ') || stderr.includes('runtime error')) throw new Error(stderr);
      const answer = stdout === '' ? undefined : (JSON.parse(stdout) as Record<string, unknown>);
      return { code: status, answer, stdout };
    },
  };
}
