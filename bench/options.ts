// What the benchmarks are told on the command line, as `--name=value`.

export function textOption(name: string): string | undefined {
  return process.argv.find((argument) => argument.startsWith(`--${name}=`))?.slice(name.length + 3);
}

/** A whole number from 1 to `most`. */
export function numberOption(name: string, otherwise: number, most = 1000): number {
  const text = textOption(name) ?? String(otherwise);
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1 || value > most)
    throw new Error(`--${name} is "${text}": expected a whole number from 1 to ${most}`);
  return value;
}
