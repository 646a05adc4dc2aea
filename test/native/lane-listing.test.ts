// The lane's programs as the kernel gets them: decoded, explained, compared with a listing, accepted by the verifier.
//
// The listing is for a host out of a book: 10.5.1.0/24, 172.20.0.1, TUN device 3, uplink 2. After a change of
// addon/lane/ read the difference, and write it anew: WRITE_LISTING=1 npx tap test/native/lane-listing.test.ts

import { readFileSync, writeFileSync } from 'node:fs';
import t from 'tap';
import { native } from '../../src/native/native.js';
import { disassemble } from '../support/bpf-disassembly.js';
import { labUnavailable } from '../support/lab.js';

for (const name of ['encap', 'decap'] as const) {
  const file = new URL(`../fixtures/lane/${name}.txt`, import.meta.url);

  t.test(`${name} is what the listing says`, (t) => {
    const { code, remarks } = native.laneProgram(name);
    const listing = disassemble(code, remarks);
    if (process.env['WRITE_LISTING'] === '1') writeFileSync(file, listing);
    t.equal(listing, readFileSync(file, 'utf8'));
    t.end();
  });

  t.test(`the verifier accepts ${name}`, { skip: labUnavailable() }, (t) => {
    const { errno, log } = native.verifyLane(name);
    t.equal(errno, 0, log);
    t.match(log, /processed \d+ insns/);
    t.end();
  });
}

t.test('an instruction that the lane does not use is refused', (t) => {
  const program = (...bytes: number[]): Uint8Array => Uint8Array.from(bytes);
  t.throws(() => disassemble(program(0x85, 0, 0, 0, 6, 0, 0, 0), []), RangeError, 'trace_printk');
  t.throws(() => disassemble(program(0x05, 0, 1, 0, 0, 0, 0, 0), []), RangeError, 'a jump to no label');
  t.throws(() => disassemble(program(0xdb, 0, 0, 0, 0xe1, 0, 0, 0), []), RangeError, 'an exchange');
  t.end();
});
