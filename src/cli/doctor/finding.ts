// What a check of `twill doctor` found.

export interface Finding {
  readonly check: string;
  readonly state: 'ok' | 'warn' | 'fail';
  readonly text: string;
  /** What to do; "" when all is well. */
  readonly advice: string;
}

export const ok = (check: string, text: string): Finding => ({ check, state: 'ok', text, advice: '' });

export const warn = (check: string, text: string, advice: string): Finding => ({
  check,
  state: 'warn',
  text,
  advice,
});

export const fail = (check: string, text: string, advice: string): Finding => ({
  check,
  state: 'fail',
  text,
  advice,
});
