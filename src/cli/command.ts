// What a command of `twill` is given and what it returns.

import { parseArgs, type ParseArgsConfig } from 'node:util';

export type OptionSpecs = NonNullable<ParseArgsConfig['options']>;
export type OptionValues = Readonly<Record<string, string | boolean | undefined>>;

export interface CommandContext {
  readonly socketPath: string;
  readonly isJson: boolean;
  readonly options: OptionValues;
  /** Arguments behind "--". */
  readonly rest: readonly string[];
  readonly print: (text: string) => void;
}

export interface Command {
  readonly name: string;
  readonly summary: string;
  /** Lines of help about options of its own. */
  readonly help: readonly string[];
  readonly options: OptionSpecs;
  /** Resolves with the exit code. */
  readonly run: (context: CommandContext) => Promise<number>;
}

/** The command line is wrong; the message says how. */
export class UsageError extends Error {}

/** Parses options strictly. Throws UsageError. */
export function parseOptions(
  args: readonly string[],
  options: OptionSpecs,
): { values: OptionValues; rest: string[] } {
  const at = args.indexOf('--');
  const own = at < 0 ? args : args.slice(0, at);
  try {
    const { values } = parseArgs({ args: [...own], options, strict: true, allowPositionals: false });
    return { values: values as OptionValues, rest: at < 0 ? [] : args.slice(at + 1) };
  } catch (error) {
    throw new UsageError(withoutValues(error as NodeJS.ErrnoException));
  }
}

// Flags of twilld get here by mistake, and Node's messages quote what it does not know: whole words, passwords among
// them.
function withoutValues({ code, message }: NodeJS.ErrnoException): string {
  if (code === 'ERR_PARSE_ARGS_UNEXPECTED_POSITIONAL')
    return (
      'unexpected argument (not shown: it may be part of a password): ' +
      'expected options, or "--" before flags of twilld'
    );
  if (code !== 'ERR_PARSE_ARGS_UNKNOWN_OPTION') return message;
  return `unknown option${/ --?[\w-]+/.exec(message.replaceAll("'", ' '))?.[0] ?? ''}: --help lists all`;
}

/** A whole number above 0 from an option, or undefined when it is not given. Throws UsageError. */
export function countOption(values: OptionValues, name: string): number | undefined {
  const text = values[name];
  if (text === undefined) return undefined;
  const value = typeof text === 'string' && /^\d{1,9}$/.test(text) ? Number(text) : 0;
  if (value < 1)
    throw new UsageError(`--${name} is ${JSON.stringify(text)}: expected a whole number above 0`);
  return value;
}

/** Seconds from an option, 0.1 or more, or undefined when it is not given. Throws UsageError. */
export function secondsOption(values: OptionValues, name: string): number | undefined {
  const text = values[name];
  if (text === undefined) return undefined;
  const value = typeof text === 'string' && /^\d{1,6}(\.\d{1,3})?$/.test(text) ? Number(text) : 0;
  if (value < 0.1)
    throw new UsageError(`--${name} is ${JSON.stringify(text)}: expected seconds, 0.1 or more`);
  return value;
}

/** Prints a value as JSON, or the text for people. */
export function show(context: CommandContext, value: unknown, text: () => string): void {
  context.print(context.isJson ? JSON.stringify(value, null, 2) : text());
}
