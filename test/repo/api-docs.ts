// docs/api.md from the doc comments of what package.json exports: one section for each entry point, with its example
// out of docs/examples, its functions and classes with their members, and its types.

import { readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import ts from 'typescript';
import { type FlagGroup, FLAGS } from '../../src/config/flags.js';

const ROOT = new URL('../../', import.meta.url).pathname;

interface EntryPoint {
  /** As an importer writes it. */
  readonly name: string;
  readonly source: string;
  /** Of the program in docs/examples. */
  readonly example: string;
}

/** Entry points in the order of package.json: each is compiled from src/api. */
export function entryPoints(): EntryPoint[] {
  const { name, exports } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
    readonly name: string;
    readonly exports: Readonly<Record<string, string | { readonly default: string }>>;
  };
  return Object.entries(exports).flatMap(([path, target]) => {
    if (typeof target === 'string') return [];
    const base = /^\.\/dist\/api\/(.+)\.js$/.exec(target.default)![1];
    return [
      {
        name: path === '.' ? name : `${name}/${path.slice(2)}`,
        source: `src/api/${base}.ts`,
        example: `docs/examples/${base}.ts`,
      },
    ];
  });
}

/** Files of docs/examples. */
export function examples(): string[] {
  return readdirSync(join(ROOT, 'docs/examples')).map((file) => `docs/examples/${file}`);
}

export function apiMarkdown(): string {
  const entries = entryPoints();
  const files = entries.map(({ source }) => join(ROOT, source));
  const config = ts.readConfigFile(join(ROOT, 'tsconfig.json'), (path) => ts.sys.readFile(path));
  const { options } = ts.convertCompilerOptionsFromJson(
    (config.config as { readonly compilerOptions: unknown }).compilerOptions,
    ROOT,
  );
  const writer = new Writer(ts.createProgram(files, options));
  return entries.map((entry) => writer.section(entry)).join('\n\n');
}

class Writer {
  readonly #program: ts.Program;
  readonly #checker: ts.TypeChecker;
  readonly #written = new Map<ts.Symbol, string>();

  constructor(program: ts.Program) {
    this.#program = program;
    this.#checker = program.getTypeChecker();
  }

  section({ name, source, example }: EntryPoint): string {
    const file = this.#program.getSourceFile(join(ROOT, source))!;
    const symbols = this.#checker.getExportsOfModule(this.#checker.getSymbolAtLocation(file)!);
    const parts = [`## ${name}`, headOf(file), '```ts\n' + readFileSync(join(ROOT, example), 'utf8') + '```'];
    const known: string[] = [];
    const types: string[] = [];
    for (const symbol of symbols) {
      const target = symbol.flags & ts.SymbolFlags.Alias ? this.#checker.getAliasedSymbol(symbol) : symbol;
      const elsewhere = this.#written.get(target);
      if (elsewhere !== undefined) {
        known.push(`\`${symbol.name}\` is that of \`${elsewhere}\`.`);
        continue;
      }
      this.#written.set(target, name);
      const declaration = target.declarations![0];
      if (isOfStatus(declaration)) types.push(`\`${symbol.name}\``);
      else parts.push(this.#entry(symbol.name, target, declaration));
    }
    if (source === 'src/api/overlay.ts') parts.push(optionsMarkdown());
    if (types.length > 0)
      parts.push(
        `The types of the status document, ${types.join(', ')}, are described in [operations](operations.md#status).`,
      );
    if (known.length > 0) parts.push(known.join(' '));
    return parts.join('\n\n');
  }

  #entry(name: string, symbol: ts.Symbol, declaration: ts.Declaration): string {
    const doc = this.#docOf(symbol);
    if (doc === '') throw new Error(`${name} is exported and has no doc comment`);
    if (ts.isFunctionDeclaration(declaration))
      return `### ${name}()\n\n${code(signatureOf(declaration))}\n\n${doc}`;
    if (ts.isClassDeclaration(declaration)) {
      const members = declaration.members.filter(isPublic).map((member) => this.#member(member));
      return `### class ${name}${heritageOf(declaration)}\n\n${doc}\n\n${members.join('\n')}`;
    }
    if (ts.isInterfaceDeclaration(declaration)) {
      const members = declaration.members.map((member) => this.#member(member));
      return `### interface ${name}${heritageOf(declaration)}\n\n${doc}\n\n${members.join('\n')}`;
    }
    if (ts.isTypeAliasDeclaration(declaration))
      return `### type ${name}\n\n${code(`type ${name} = ${this.#meaningOf(declaration)}`)}\n\n${doc}`;
    const type = this.#checker.typeToString(this.#checker.getTypeOfSymbol(symbol));
    return `### ${name}\n\n${doc}${type.length > 80 ? '' : ` Type \`${type}\`.`}`;
  }

  /** A union that is derived from a list, spelled out unless it is long. */
  #meaningOf(declaration: ts.TypeAliasDeclaration): string {
    const type = this.#checker.getTypeAtLocation(declaration);
    const isShort = type.isUnion() && type.types.length <= 16;
    if (!isShort) return flat(declaration.type.getText());
    return type.types.map((one) => this.#checker.typeToString(one).replaceAll('"', "'")).join(' | ');
  }

  #member(member: ts.ClassElement | ts.TypeElement): string {
    const symbol = this.#checker.getSymbolAtLocation(member.name ?? member);
    const doc = symbol === undefined ? this.#docOfNode(member) : this.#docOf(symbol);
    return `- \`${signatureOf(member)}\`${doc === '' ? '' : `  \n  ${doc.replaceAll('\n', '\n  ')}`}`;
  }

  #docOf(symbol: ts.Symbol): string {
    return textOf(
      ts.displayPartsToString(symbol.getDocumentationComment(this.#checker)),
      symbol.getJsDocTags(this.#checker),
    );
  }

  #docOfNode(node: ts.Node): string {
    const tags = ts.getJSDocCommentsAndTags(node).filter(ts.isJSDoc);
    return flat(tags.map(({ comment }) => ts.getTextOfJSDocComment(comment) ?? '').join(' '));
  }
}

/** The options of openOverlay() by group, with the flags of twilld that they stand for. */
function optionsMarkdown(): string {
  const { etcd, store, underlay, backend, offloads, firewall, probes } = FLAGS;
  const groups: Readonly<Record<string, FlagGroup>> = {
    store,
    etcd,
    underlay,
    backend,
    offloads,
    firewall,
    probes,
  };
  const rows = Object.entries(groups).flatMap(([group, flags]) =>
    Object.entries(flags).map(
      ([key, { name, otherwise }]) =>
        `| \`${group}.${key}\` | \`--${name}\` | \`${JSON.stringify(otherwise)}\` |`,
    ),
  );
  const head = ['| option | flag of twilld | default |', '| --- | --- | --- |'];
  const intro = 'What each flag does is in [operations](operations.md#command-line).';
  return ['### Options by group', intro, [...head, ...rows].join('\n')].join('\n\n');
}

function textOf(comment: string, tags: readonly ts.JSDocTagInfo[]): string {
  const lines = [comment.replace(/(\S)\n(?=\S)/g, '$1 ')];
  for (const { name, text } of tags) {
    const words = flat(ts.displayPartsToString(text));
    if (name === 'throws') lines.push(`Throws ${words}`);
    else if (name === 'default') lines.push(`Default: ${words}`);
  }
  return lines
    .filter((line) => line !== '')
    .join(lines.length === 2 && tags[0].name === 'default' ? ' ' : '\n\n');
}

/** The comment at the head of a file, as paragraphs. */
function headOf(file: ts.SourceFile): string {
  const head = /^(?:\/\/.*\n)+/.exec(file.text)![0];
  return head
    .split('\n')
    .map((line) => line.replace(/^\/\/ ?/, ''))
    .join('\n')
    .trim()
    .replace(/(\S)\n(?=\S)/g, '$1 ');
}

function heritageOf(declaration: ts.ClassDeclaration | ts.InterfaceDeclaration): string {
  const parameters = (declaration.typeParameters ?? []).map((parameter) => flat(parameter.getText()));
  const clauses = (declaration.heritageClauses ?? []).map((clause) => ` ${flat(clause.getText())}`).join('');
  return `${parameters.length > 0 ? `\\<${parameters.join(', ')}\\>` : ''}${clauses}`;
}

/** What an embedder may use: neither private, nor marked as the data path's own. */
function isPublic(member: ts.ClassElement): boolean {
  const isHidden =
    (ts.getCombinedModifierFlags(member) & ts.ModifierFlags.Private) !== 0 ||
    ts.getJSDocTags(member).some(({ tagName }) => tagName.text === 'internal');
  return !isHidden && !(member.name !== undefined && ts.isPrivateIdentifier(member.name));
}

/** A declaration without body, value and comment, on one line. */
function signatureOf(node: ts.Node): string {
  const text = node.getText();
  const start = node.getStart();
  const isCallable = ts.isFunctionLike(node) && 'body' in node && node.body !== undefined;
  const end = isCallable
    ? (node.body as ts.Node).getStart()
    : ts.isPropertyDeclaration(node) && node.initializer !== undefined
      ? node.initializer.getFullStart() - 1
      : node.getEnd();
  return flat(text.slice(0, end - start))
    .replace(/^(?:export |async )+/, '')
    .replace(/\/\*\*.*?\*\/ ?/g, '')
    .replace(/[;=\s]+$/, '');
}

function isOfStatus(declaration: ts.Declaration): boolean {
  return relative(ROOT, declaration.getSourceFile().fileName) === 'src/ops/status.ts';
}

function flat(text: string): string {
  return text.replace(/\s+/g, ' ').trim();
}

function code(text: string): string {
  return `\`\`\`ts\n${text.replace(/^export /, '')}\n\`\`\``;
}
