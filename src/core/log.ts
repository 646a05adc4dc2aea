// The one logger. Lines go to stderr, synchronously, so that the last line before a crash is not lost; a stderr that
// nobody reads any more never stops the daemon.

import { writeSync } from 'node:fs';
import pino from 'pino';
import { LogLimiter } from './log-limit.js';

export type Logger = pino.Logger;

export interface LoggerOptions {
  readonly level: 'warn' | 'info' | 'debug';
  readonly format: 'text' | 'json';
  /** Takes whole lines. @default standard error */
  readonly write?: (line: string) => void;
}

/** Keys that may hold a secret are replaced wherever they occur in a logged object. */
const REDACTED_PATHS = ['password', 'etcdPassword', '*.password', '*.etcdPassword'];

const STDERR = 2;

/** Of pino. */
const DEBUG = 20;
const FATAL = 60;

/** How long a line may be held back. */
const FLUSH_MS = 1_000;

/**
 * A logger for the whole process. Floods are held back and counted, except at level debug: who asks for it wants all.
 */
export function openLogger(options: LoggerOptions): Logger {
  const { level, format, write = writeToStderr } = options;
  const limiter = new LogLimiter(() => performance.now());
  const settings: pino.LoggerOptions = {
    level,
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
    hooks: { logMethod: limitedBy(limiter) },
    redact: { paths: REDACTED_PATHS, censor: '[redacted]' },
  };
  return pino(settings, { write: format === 'json' ? write : (line) => write(toText(line)) });
}

type LogMethod = NonNullable<NonNullable<pino.LoggerOptions['hooks']>['logMethod']>;

function limitedBy(limiter: LogLimiter): LogMethod {
  let timer: NodeJS.Timeout | undefined;
  process.once('exit', () => limiter.flush(true));
  return function (args, method, level) {
    if (level <= DEBUG || level >= FATAL) {
      method.apply(this, args);
      return;
    }
    const [first, second] = args as unknown[];
    const hasFields = typeof first === 'object' && first !== null;
    const fields = hasFields ? first : {};
    const text = (hasFields ? second : first) as string;
    limiter.say(this.levels.labels[level], text, (repeated) =>
      method.apply(this, repeated === 0 ? args : [{ ...fields, repeated }, text]),
    );
    if (!limiter.isHolding || timer !== undefined) return;
    timer = setInterval(() => {
      limiter.flush();
      if (limiter.isHolding) return;
      clearInterval(timer);
      timer = undefined;
    }, FLUSH_MS).unref();
  };
}

function writeToStderr(line: string): void {
  try {
    writeSync(STDERR, line);
  } catch {
    // Closed, full or gone: there is nowhere left to say so, and packets must go on.
  }
}

/** `2026-01-02T03:04:05.678Z info  message key=value …` */
function toText(line: string): string {
  const { time, level, msg, err, ...rest } = JSON.parse(line) as Record<string, unknown> & {
    time: string;
    level: string;
    msg?: string;
    err?: { message?: string; stack?: string };
  };
  // A value from outside must not look like another value, or like another line.
  const pairs = Object.entries(rest).map(
    ([key, value]) =>
      `${key}=${typeof value === 'string' && /^[!-~]+$/.test(value) ? value : JSON.stringify(value)}`,
  );
  if (err !== undefined) {
    // A bug ends the process and leaves this line as its last: without the stack nobody could mend it.
    const told = level === 'fatal' ? (err.stack ?? err.message) : err.message;
    pairs.push(`err=${JSON.stringify(told ?? '')}`);
  }
  const text = [`${time} ${level.padEnd(5)} ${msg ?? ''}`, ...pairs].join(' ');
  // Names and values in the store are other people's text: they must not end the line or speak to a terminal.
  return `${text.replace(/\p{Cc}/gu, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`)}\n`;
}
