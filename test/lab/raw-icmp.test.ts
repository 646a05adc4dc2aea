// The raw ICMP socket, by the package and by the addon: the same cases over both, in a namespace with an lo of 1500
// bytes.

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { Lab, labUnavailable, PROJECT_ROOT } from '../support/lab.js';

const KINDS = ['raw-socket', 'addon'] as const;

/** What both begin with: `open(onReceived)` gives the sender. */
const OPEN = `
  import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
  const [root, kind] = process.argv.slice(1);
  const { buildEcho } = await import(root + '/dist/probe/icmp-echo.js');
  const { native } = await import(root + '/dist/native/native.js');
  const open = async (onReceived) => {
    if (kind === 'addon') return (await import(root + '/dist/probe/addon-icmp.js')).openAddonIcmp(native, onReceived);
    const { openRawIcmp } = await import(root + '/dist/probe/raw-icmp.js');
    const { sender, by } = await openRawIcmp(onReceived, () => Promise.reject(new Error('the addon is not asked')));
    if (by !== kind) throw new Error(by);
    return sender;
  };
  const LO = 0x7f000001;
  const token = Buffer.from('token678');
  const until = async (isTrue) => { while (!isTrue()) await new Promise((resolve) => setTimeout(resolve, 2)); };
  const sockets = () => readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      return readlinkSync('/proc/self/fd/' + fd).startsWith('socket:') ? [Number(fd)] : [];
    } catch { return []; } // the one that the listing had
  });
`;

const CASES = `${OPEN}
  const before = sockets();
  const received = [];
  const sender = await open((one) => received.push(one));
  let said = [];
  const send = (to, sequence, bytes) => sender.send(to, buildEcho({ id: 77, sequence, token }, bytes),
    () => said.push('too long'), () => said.push('refused'));
  for (let i = 0; i < 200; i++) send(LO, i, 64);
  await until(() => received.length >= 200);
  const burst = received.splice(0);
  send(LO, 1000, 1500);
  await until(() => received.length >= 1);
  const [full] = received.splice(0);
  send(LO, 1001, 1501);
  await until(() => said.length > 0);
  const tooLong = said.splice(0);
  send(0xc6336401, 1002, 64);
  await until(() => said.length > 0);
  const noRoute = said.splice(0);
  sender.close();
  sender.close();
  await until(() => sockets().length === before.length);
  console.log(JSON.stringify({
    burst: burst.every(({ kind, from, bytes, echo }) => kind === 'reply' && from === LO && bytes === 64
      && echo.id === 77 && Buffer.from(echo.token).equals(token)) && burst.map(({ echo }) => echo.sequence),
    full: [full.kind, full.bytes], tooLong, noRoute,
  }));
`;

/** Of the addon alone: how a process, or a worker, ends that has not closed it; and children do not inherit it. */
const ENDS = `${OPEN}
  import { Worker } from 'node:worker_threads';
  const sender = await open(() => undefined);
  const [fd] = sockets().filter((fd) => /flags:\\s+0?2/.test(readFileSync('/proc/self/fdinfo/' + fd, 'utf8')));
  console.log('close-on-exec ' + (fd !== undefined));
  const source = 'const { parentPort, workerData } = require("node:worker_threads");'
    + 'const { IcmpSocket } = require(workerData);'
    + 'const socket = new IcmpSocket(new ArrayBuffer(65536), new Uint32Array(4), () => undefined);'
    + 'parentPort.postMessage(socket.open()); setInterval(() => socket, 1000);';
  const load = { eval: true, execArgv: [], workerData: root + '/build/Release/twill.node' };
  const before = sockets().length;
  for (let i = 0; i < 20; i++) {
    const worker = new Worker(source, load);
    const opened = await new Promise((resolve) => worker.once('message', resolve));
    if (opened !== 0 || sockets().length <= before) throw new Error('not opened: ' + opened);
    await worker.terminate();
  }
  console.log('closed with its worker ' + (sockets().length === before));
  // A callback that throws is an error of the process, as in every event.
  const fail = () => { throw new Error('of the callback'); };
  const socket = new native.IcmpSocket(new ArrayBuffer(65536), new Uint32Array(1), fail);
  socket.open();
  let thrown;
  process.once('uncaughtException', (error) => { thrown = error.message; });
  socket.send(LO, buildEcho({ id: 1, sequence: 1, token }, 64));
  await until(() => thrown !== undefined); // the socket would not keep us alive
  console.log(thrown);
  for (let i = 0; i < 1000; i++) {
    const one = new native.IcmpSocket(new ArrayBuffer(65536), new Uint32Array(1), () => undefined);
    if (one.open() !== 0) throw new Error('not opened');
    one.close();
    if (one.send(LO, new Uint8Array(8)) !== -9) throw new Error('closed, and yet it sends');
  }
  console.log('a thousand lives');
  // Two are still open: the process ends all the same.
`;

t.test('the raw ICMP socket', { skip: labUnavailable() }, async (t) => {
  const lab = Lab.open('icmp-');
  t.teardown(() => lab.close());
  const ns = lab.addNamespace('x');
  lab.ip(ns, 'link set lo mtu 1500');
  const run = async (script: string, kind: string): Promise<string> => {
    const args = ['--input-type=module', '-e', script, PROJECT_ROOT, kind];
    return (await lab.run(ns, process.execPath, args, { timeoutMs: 30_000 })).stdout;
  };
  for (const kind of KINDS) {
    const isThere = kind === 'addon' || existsSync(join(PROJECT_ROOT, 'node_modules', kind));
    await t.test(`by ${kind}`, { skip: isThere ? false : 'not installed' }, async (t) => {
      t.same(JSON.parse(await run(CASES, kind)), {
        burst: Array.from({ length: 200 }, (_, i) => i),
        full: ['reply', 1500],
        tooLong: ['too long'],
        noRoute: ['refused'],
      });
    });
  }
  await t.test("the addon's is closed with its worker and its process, and no child has it", async (t) => {
    t.same((await run(ENDS, 'addon')).trim().split('\n'), [
      'close-on-exec true',
      'closed with its worker true',
      'of the callback',
      'a thousand lives',
    ]);
  });
});
