#!/usr/bin/env node
// The program `twill`: what an operator asks about the overlay on this host. Exit codes: 0, 1 when something is wrong
// or the daemon cannot be asked, 2 for a wrong command line.

import { DEFAULT_CONTROL_SOCKET } from '../config/options.js';
import { readVersion } from '../core/version.js';
import { type Command, parseOptions, UsageError } from './command.js';
import { wrap } from './format.js';
import { serviceVariable } from './settings.js';
import { screenWidth } from './format.js';

/** Each is loaded only when it is asked for. */
const COMMANDS: Readonly<Record<string, () => Promise<Command>>> = {
  status: async () => (await import('./status.js')).STATUS,
  peers: async () => (await import('./peers.js')).PEERS,
  drops: async () => (await import('./drops.js')).DROPS,
  leases: async () => (await import('./leases.js')).LEASES,
  top: async () => (await import('./top.js')).TOP,
  capture: async () => (await import('./capture.js')).CAPTURE,
  cleanup: async () => (await import('./cleanup.js')).CLEANUP,
  doctor: async () => (await import('./doctor/doctor.js')).DOCTOR,
};

const COMMON_HELP = [
  '--json       for programs',
  '--socket F   control socket of the daemon (default FLANNELD_CONTROL_SOCKET, else ' +
    `${DEFAULT_CONTROL_SOCKET})`,
  '--help       this text',
];

async function usage(): Promise<string> {
  const lines = ['Usage: twill COMMAND [OPTION]...', ''];
  for (const load of Object.values(COMMANDS)) {
    const { name, summary } = await load();
    lines.push(...optionLines(`${name.padEnd(9)} ${summary}`, 10));
  }
  return [...lines, '', ...COMMON_HELP.flatMap((line) => optionLines(line, 13)), ''].join('\n');
}

/** A line of help, in as many lines as the screen needs; its text begins at `column`. */
function optionLines(text: string, column: number): string[] {
  const indent = ' '.repeat(2 + column);
  return wrap(text.slice(column), screenWidth() - indent.length).map(
    (line, i) => (i === 0 ? `  ${text.slice(0, column)}` : indent) + line,
  );
}

function commandUsage({ name, summary, help }: Command): string {
  const options = [...help, ...COMMON_HELP].flatMap((line) => optionLines(line, 13));
  return [`Usage: twill ${name} [OPTION]...`, '', ...optionLines(summary, 0), '', ...options, ''].join('\n');
}

async function main(args: readonly string[]): Promise<number> {
  const [name, ...rest] = args;
  const print = (text: string): void => void process.stdout.write(`${text}\n`);
  if (name === '--version') {
    print(readVersion());
    return 0;
  }
  if (name === undefined || name === '--help' || name === '-h' || name === 'help') {
    const text = await usage();
    if (name === undefined) throw new UsageError(`a command is missing\n\n${text}`);
    print(text);
    return 0;
  }
  const load = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (load === undefined) {
    const shown = /^[\w-]*$/.test(name) ? ` "${name}"` : ''; // no flag of twilld that was given here by mistake
    throw new UsageError(`unknown command${shown}: expected one of ${Object.keys(COMMANDS).join(', ')}`);
  }
  const command = await load();
  const { values, rest: behind } = parseOptions(rest, {
    ...command.options,
    json: { type: 'boolean' },
    socket: { type: 'string' },
    help: { type: 'boolean', short: 'h' },
  });
  if (values['help'] === true) {
    print(commandUsage(command));
    return 0;
  }
  const variable = 'FLANNELD_CONTROL_SOCKET';
  const fromEnv = process.env[variable] ?? serviceVariable(variable) ?? '';
  return command.run({
    socketPath: String(values['socket'] ?? (fromEnv === '' ? DEFAULT_CONTROL_SOCKET : fromEnv)),
    isJson: values['json'] === true,
    options: values,
    rest: behind,
    print,
  });
}

// A reader that has seen enough, such as head(1), is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1));

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  process.stderr.write(`twill: ${(error as Error).message}\n`);
  process.exitCode = error instanceof UsageError ? 2 : 1;
}
