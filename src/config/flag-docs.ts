// The table of flags as text: for --help, for docs/operations.md, and for the completion of shells. Pure.

import { ALL_FLAGS, type Flag, IGNORED } from './flags.js';

function shownDefault({ otherwise }: Flag<unknown>): string {
  return Array.isArray(otherwise) ? '' : String(otherwise);
}

/** What --help prints. */
export function usageText(): string {
  const lines = ALL_FLAGS.map((flag) => {
    const values = flag.choices.length > 0 ? ` ${flag.choices.join('|')}` : '';
    const otherwise = shownDefault(flag);
    return `  --${flag.name}${values}\n        ${flag.help}${otherwise === '' ? '' : ` (default ${otherwise})`}`;
  });
  const rest = [
    '  --version',
    '        print the version and exit',
    '  --help',
    '        print this text and exit',
  ];
  return ['Usage: twilld [OPTION]...', ...lines, ...rest, ''].join('\n');
}

/** The flags as a Markdown table, followed by a table of flanneld's flags that twilld does not follow. */
export function flagsMarkdown(): string {
  const rows = ALL_FLAGS.map((flag) => {
    const expected = flag.choices.length > 0 ? flag.choices.join(', ') : flag.expected;
    const values = flag.isList ? `${expected}, repeatable` : expected;
    const otherwise = shownDefault(flag);
    return `| \`--${flag.name}\` | ${values} | ${otherwise === '' ? '' : `\`${otherwise}\``} | ${flag.help} |`;
  });
  const ignored = Object.entries(IGNORED).map(
    ([name, { reason }]) => `| \`--${name}\` | taken, and ignored with a warning: ${reason} |`,
  );
  return [
    '| flag | value | default | meaning |',
    '| --- | --- | --- | --- |',
    ...rows,
    '',
    '| flag of flanneld | here |',
    '| --- | --- |',
    ...ignored,
  ].join('\n');
}

/** Completion for bash: names of flags, values where there are few, and files where a flag names one. */
export function bashCompletion(): string {
  const names = [...ALL_FLAGS.map(({ name }) => name), 'help', 'version'].map((name) => `--${name}`);
  const cases = ALL_FLAGS.flatMap(({ name, choices, isSwitch }) => {
    const words = isSwitch ? ['true', 'false'] : choices;
    return words.length === 0
      ? []
      : [`    --${name}) COMPREPLY=($(compgen -W '${words.join(' ')}' -- "$value")) ;;`];
  });
  const files = ALL_FLAGS.filter(({ name }) => name.endsWith('file')).map(({ name }) => `--${name}`);
  return [
    '# Completion of the flags of twilld and flanneld for bash; written from the table of flags by `npm run docs`.',
    '_twilld() {',
    '  local flag=${COMP_WORDS[COMP_CWORD - 1]} value=${COMP_WORDS[COMP_CWORD]}',
    '  if [ "$value" = = ]; then value=; fi',
    '  if [ "$flag" = = ]; then flag=${COMP_WORDS[COMP_CWORD - 2]}; fi',
    '  case $flag in',
    ...cases,
    `    ${files.join(' | ')}) COMPREPLY=($(compgen -f -- "$value")) ;;`,
    `    *) COMPREPLY=($(compgen -W '${names.join(' ')}' -- "$value")) ;;`,
    '  esac',
    '}',
    'complete -F _twilld twilld flanneld',
    '',
  ].join('\n');
}
