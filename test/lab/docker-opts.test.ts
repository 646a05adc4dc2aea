// mk-docker-opts on a host that already routes its own subnet to another one.

import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { LAB_SKIP, withLab } from '../support/kernel-lab.js';

const PROGRAM = fileURLToPath(new URL('../../src/docker/mk-docker-opts.ts', import.meta.url));

t.test('mk-docker-opts tells of a foreign route to the own subnet', { skip: LAB_SKIP }, (t) =>
  withLab(async (lab) => {
    const folder = await mkdtemp(join(tmpdir(), 'twill-docker-'));
    const input = join(folder, 'subnet.env');
    const output = join(folder, 'docker');
    await writeFile(input, 'FLANNEL_SUBNET=10.5.74.1/24\n');
    const command = [process.execPath, '--import', 'tsx', PROGRAM, '-c', '-f', input, '-d', output];
    await lab.exec('h1', command);
    await lab.sh('h1', 'ip route add 10.5.74.0/24 via 192.0.2.74');
    const expected = /Your routing table already contains the subnet: 10\.5\.74\.0\/24/;
    await t.rejects(lab.exec('h1', command), { message: expected });
    t.equal(await readFile(output, 'utf8'), 'DOCKER_OPTS=" --bip=10.5.74.1/24"\n', 'and writes all the same');
    await rm(folder, { recursive: true });
  }),
);
