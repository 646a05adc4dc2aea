// Frames sent and seen at a device of a lab, by raw_frames.cc.

import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { cleanEnvironment } from '../support/lab.js';

/** virtio_net_hdr of a frame that is nothing special. */
const PLAIN = Buffer.alloc(10);

/** A frame that was seen. */
export interface Seen {
  /** For us, broadcast, multicast, for another, sent by this host. */
  readonly kind: 'h' | 'b' | 'm' | 'o' | 's';
  /** The virtio_net_hdr. */
  readonly offload: Buffer;
  readonly frame: Buffer;
}

/** Parts of a virtio_net_hdr for a TCP (1) or UDP (5) superpacket without IP options. */
export function superpacket(type: 1 | 5, headerBytes: number, pieceBytes: number): Buffer<ArrayBuffer> {
  const offload = Buffer.alloc(10);
  offload[0] = 1; // the checksum is to be filled in
  offload[1] = type;
  offload.writeUInt16LE(headerBytes, 2);
  offload.writeUInt16LE(pieceBytes, 4);
  offload.writeUInt16LE(20, 6);
  offload.writeUInt16LE(type === 1 ? 16 : 6, 8);
  return offload;
}

export class RawFrames {
  readonly seen: Seen[] = [];
  readonly #child: ChildProcess;
  readonly #waiting: ((line: string) => void)[] = [];

  private constructor(child: ChildProcess) {
    this.#child = child;
    createInterface({ input: child.stdout! }).on('line', (line) => this.#read(line));
  }

  /** `program` is raw_frames.cc compiled by the lab. */
  static async open(program: string, ns: string, device: string): Promise<RawFrames> {
    const args = ['--pdeathsig', 'KILL', 'ip', 'netns', 'exec', ns, program, device];
    const child = spawn('setpriv', args, { env: cleanEnvironment(), stdio: ['pipe', 'pipe', 'inherit'] });
    const frames = new RawFrames(child);
    await new Promise<void>((resolve, reject) => {
      frames.#waiting.push(() => resolve());
      child.once('exit', () => reject(new Error(`raw_frames ${device} has ended`)));
    });
    return frames;
  }

  /** Throws when the kernel refuses it. */
  async send(frame: Buffer, offload = PLAIN): Promise<void> {
    const answer = await new Promise<string>((resolve) => {
      this.#waiting.push(resolve);
      this.#child.stdin!.write(`${offload.toString('hex')}${frame.toString('hex')}\n`);
    });
    if (answer !== 'sent') throw new Error(`the frame was ${answer}`);
  }

  close(): void {
    this.#child.kill('SIGKILL');
  }

  #read(line: string): void {
    const match = /^([hbmos]) ([0-9a-f]*)$/.exec(line);
    if (match === null) {
      this.#waiting.shift()?.(line);
      return;
    }
    const bytes = Buffer.from(match[2], 'hex');
    this.seen.push({
      kind: match[1] as Seen['kind'],
      offload: bytes.subarray(0, 10),
      frame: bytes.subarray(10),
    });
  }
}
