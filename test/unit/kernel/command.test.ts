import t from 'tap';
import { describe, runCommand, traceCommands } from '../../../src/kernel/command.js';
import { OverlayError } from '../../../src/core/errors.js';

const NODE = process.execPath;

t.test('runCommand() resolves with status and output, and passes input by stdin', async (t) => {
  const script = 'process.stdin.pipe(process.stdout); console.error("why"); process.exitCode = 3';
  const result = await runCommand(NODE, ['-e', script], { input: 'text' });
  t.strictSame(result, { status: 3, stdout: 'text', stderr: 'why\n' });
});

t.test('runCommand() gives the child PATH and the C locale only', async (t) => {
  process.env['NOT_FOR_TOOLS'] = 'secret';
  // The test runner adds variables of its own to every child.
  const names = 'Object.keys(process.env).filter((name) => !/TAP|^NODE_OPTIONS$/.test(name)).sort().join()';
  const { stdout } = await runCommand(NODE, ['-p', names]);
  t.equal(stdout, 'LC_ALL,PATH\n');
});

t.test('runCommand() rejects with the code asked for when the tool is not there', async (t) => {
  await t.rejects(runCommand('/nonexistent/tool', ['-x'], { errorCode: 'E_FIREWALL' }), {
    code: 'E_FIREWALL',
    message: 'Cannot run "/nonexistent/tool -x": not found',
  });
});

t.test('runCommand() ends a tool that takes too long or writes too much', async (t) => {
  const hang = ['-e', 'setInterval(() => 0, 1000)'];
  await t.rejects(runCommand(NODE, hang, { timeoutMs: 50 }), {
    code: 'E_KERNEL',
    message: /no end within 50 ms/,
  });
  const flood = ['-e', 'process.stdout.write("x".repeat(100000))'];
  await t.rejects(runCommand(NODE, flood, { maxOutputBytes: 1000 }), {
    message: /more than 1000 bytes of output/,
  });
});

t.test('runCommand() rejects with the reason of an abort', async (t) => {
  const controller = new AbortController();
  const running = runCommand(NODE, ['-e', 'setInterval(() => 0, 1000)'], { signal: controller.signal });
  controller.abort(new OverlayError('E_KERNEL', 'stopping'));
  await t.rejects(running, { message: 'stopping' });
  await t.rejects(runCommand(NODE, ['-v'], { signal: controller.signal }), { message: 'stopping' });
});

t.test('runCommand() survives a tool that reads no input', async (t) => {
  const result = await runCommand(NODE, ['-e', 'process.stdin.destroy()'], { input: 'x'.repeat(1 << 20) });
  t.equal(result.status, 0);
});

t.test('describe() shortens what no operator would read', (t) => {
  t.equal(describe('ip', ['route', 'show']), 'ip route show');
  t.equal(describe('ip', ['x'.repeat(500)]).length, 201);
  t.end();
});

t.test('traceCommands() hears of the end of each command', async (t) => {
  const heard: unknown[] = [];
  traceCommands((command, end, ms) => heard.push([command.includes('process.exit(3)'), end, ms >= 0]));
  t.teardown(() => traceCommands(() => undefined));
  await runCommand(NODE, ['-e', 'process.exit(3)']);
  t.strictSame(heard, [[true, 3, true]]);
});
