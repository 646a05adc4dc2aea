#!/usr/bin/env node
// The program behind `twill-cni`, which may also be installed as /opt/cni/bin/flannel. It runs once for each pod, so it
// loads nothing but its own few modules.

import { readFileSync } from 'node:fs';
import { CNI_ERROR, CniError } from './cni-error.js';
import { runCni } from './plugin.js';
import { readConfiguration, readEnvironment, SUPPORTED_VERSIONS } from './request.js';

const CURRENT_VERSION = SUPPORTED_VERSIONS[SUPPORTED_VERSIONS.length - 1];

function main(): number {
  let version: string = CURRENT_VERSION;
  try {
    if (process.env['CNI_COMMAND'] === undefined) {
      process.stderr.write(
        'twill-cni: a CNI plugin, run by a container runtime. ' +
          `CNI protocol versions supported: ${SUPPORTED_VERSIONS.join(', ')}\n`,
      );
      return 0;
    }
    const request = readEnvironment(process.env);
    if (request.command === 'VERSION') {
      process.stdout.write(
        JSON.stringify({ cniVersion: CURRENT_VERSION, supportedVersions: SUPPORTED_VERSIONS }),
      );
      return 0;
    }
    const config = readConfiguration(readFileSync(0, 'utf8'));
    version = config.cniVersion;
    process.stdout.write(runCni(request, config, process.env));
    return 0;
  } catch (error) {
    const failure =
      error instanceof CniError ? error : new CniError(CNI_ERROR.internal, (error as Error).message);
    process.stdout.write(failure.toJson(version));
    return 1;
  }
}

process.exitCode = main();
