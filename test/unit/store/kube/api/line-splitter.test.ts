import t from 'tap';
import { LineSplitter } from '../../../../../src/store/kube/api/line-splitter.js';

t.test('LineSplitter tells whole lines, wherever they are cut, and drops what no line feed ends', (t) => {
  const bytes = Buffer.from('{"a":"ü€"}\n\n{"b":2}\r\n  \n{"c":3}\n{"d"');
  const wanted = ['{"a":"ü€"}', '{"b":2}', '{"c":3}'];
  for (let at = 0; at <= bytes.length; at++) {
    const lines: string[] = [];
    const splitter = new LineSplitter((line) => lines.push(line.toString().trim()));
    splitter.write(bytes.subarray(0, at));
    splitter.write(bytes.subarray(at));
    t.strictSame(lines, wanted);
  }
  const lines: string[] = [];
  const splitter = new LineSplitter((line) => lines.push(line.toString().trim()));
  for (const byte of bytes) splitter.write(Buffer.of(byte));
  t.strictSame(lines, wanted);
  t.end();
});

t.test('LineSplitter bounds a line, ended or not', (t) => {
  const lines: string[] = [];
  const splitter = new LineSplitter((line) => lines.push(line.toString().trim()), 8);
  splitter.write(Buffer.from('12345678\n1234'));
  splitter.write(Buffer.from('5678'));
  t.throws(() => splitter.write(Buffer.from('9')), new SyntaxError('a line has more than 8 bytes'));
  t.throws(() => new LineSplitter(() => undefined, 8).write(Buffer.from('123456789\n')), SyntaxError);
  t.strictSame(lines, ['12345678']);
  const whole = new LineSplitter((line) => lines.push(line.toString().trim()));
  whole.write(Buffer.alloc(8 << 20, 'x'));
  t.throws(() => whole.write(Buffer.of(0x78)), /a line has more than 8388608 bytes/);
  t.end();
});
