// What the benchmarks are told on the command line, as `--name=value`, or `--name` for what is or is not.

/** All values of a name, in their order. */
export function textOptions(name: string): string[] {
  const start = `--${name}=`;
  return process.argv.filter((argument) => argument.startsWith(start)).map((one) => one.slice(start.length));
}

/** The first value of a name. */
export function textOption(name: string): string | undefined {
  return textOptions(name)[0];
}

/** Whether `--name` was given. */
export function flagOption(name: string): boolean {
  return process.argv.includes(`--${name}`);
}

/** A whole number from 1 to `most`. */
export function numberOption(name: string, otherwise: number, most = 1000): number {
  const text = textOption(name) ?? String(otherwise);
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1 || value > most)
    throw new Error(`--${name} is "${text}": expected a whole number from 1 to ${most}`);
  return value;
}

/**
 * What is wrong with the options among `args`: one that `known` does not have, as `quick` or `rounds=N`, one without
 * its value, or a value for one that takes none.
 */
export function checkOptions(args: readonly string[], known: readonly string[]): string | undefined {
  for (const argument of args.filter((one) => one.startsWith('-'))) {
    const [, name, value] = /^--([^=]*)(=.*)?$/s.exec(argument) ?? [];
    const option = known.find((one) => one.split('=')[0] === name);
    if (option === undefined) {
      const expected = known.length === 0 ? 'none' : known.map((one) => `--${one}`).join(', ');
      return `Unknown option "${argument}": expected ${expected}`;
    }
    if (option.includes('=') !== (value !== undefined && value !== '='))
      return `"${argument}": expected --${option}`;
  }
  return undefined;
}
