// The one logger. Lines go to stderr, synchronously, so that the last line before a crash is not lost.

import pino from 'pino';

export type Logger = pino.Logger;

/** Keys that may hold a secret are replaced wherever they occur in a logged object. */
const REDACTED_PATHS = ['password', 'etcdPassword', '*.password', '*.etcdPassword'];

/** A logger on stderr at `level` ("info", "debug", …); one JSON object per line. */
export function openLogger(level: string): Logger {
  return pino(
    {
      level,
      base: { pid: process.pid },
      timestamp: pino.stdTimeFunctions.isoTime,
      messageKey: 'msg',
      formatters: { level: (label) => ({ level: label }) },
      redact: { paths: REDACTED_PATHS, censor: '[redacted]' },
    },
    pino.destination({ dest: 2, sync: true }),
  );
}
