// JSON as Go's decoder reads it, as far as flannel's documents depend on that: field names match in any case, an exact
// match wins, and of duplicates the last one does. Pure.
//
// Objects come without a prototype, so a key "__proto__" is an ordinary key. Size and depth are bounded: the text may
// come from anyone who can write to the store.

export interface JsonLimits {
  /** @default 1 MiB */
  readonly maxBytes?: number;
  /** Nested arrays and objects. @default 32 */
  readonly maxDepth?: number;
}

const DEFAULT_MAX_BYTES = 1 << 20;
const DEFAULT_MAX_DEPTH = 32;

const QUOTE = 0x22;
const OPEN_BRACKET = 0x5b;
const BACKSLASH = 0x5c;
const CLOSE_BRACKET = 0x5d;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;

/** Parses `text`. Throws SyntaxError saying what is wrong. */
export function parseJson(text: string, limits: JsonLimits = {}): unknown {
  const { maxBytes = DEFAULT_MAX_BYTES, maxDepth = DEFAULT_MAX_DEPTH } = limits;
  const size = Buffer.byteLength(text);
  if (size > maxBytes) throw new SyntaxError(`${size} bytes of JSON: expected at most ${maxBytes}`);
  // Before JSON.parse, whose recursion is as deep as the text.
  const depth = depthOf(text);
  if (depth > maxDepth) throw new SyntaxError(`JSON nested ${depth} deep: expected at most ${maxDepth}`);
  try {
    return withoutPrototypes(JSON.parse(text));
  } catch (error) {
    throw new SyntaxError(`not valid JSON: ${withoutText((error as Error).message)}`);
  }
}

// V8 quotes what stands around the fault, which may be the key of a backend; hence no cause either.
function withoutText(message: string): string {
  return message.replace(/, (?:\.{3})?".*"(?:\.{3})? is not valid JSON$/s, '');
}

/** Value of a field of an object by Go's rule; undefined when `object` is none or has no such field. */
export function field(object: unknown, name: string): unknown {
  const key = fieldKey(object, name);
  return key === undefined ? undefined : (object as Record<string, unknown>)[key];
}

/** The key under which `field` finds a value. */
export function fieldKey(object: unknown, name: string): string | undefined {
  if (typeof object !== 'object' || object === null || Array.isArray(object)) return undefined;
  if (Object.hasOwn(object, name)) return name;
  const folded = name.toLowerCase();
  return Object.keys(object).findLast((key) => key.toLowerCase() === folded);
}

function depthOf(text: string): number {
  let depth = 0;
  let deepest = 0;
  let isString = false;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (isString) {
      if (c === BACKSLASH) i++;
      else if (c === QUOTE) isString = false;
    } else if (c === QUOTE) isString = true;
    else if (c === OPEN_BRACE || c === OPEN_BRACKET) deepest = Math.max(deepest, ++depth);
    else if (c === CLOSE_BRACE || c === CLOSE_BRACKET) depth--;
  }
  return deepest;
}

function withoutPrototypes(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutPrototypes);
  if (typeof value !== 'object' || value === null) return value;
  // Losing its prototype last, the object stays half the size of one that is made without.
  const copy: Record<string, unknown> = {};
  for (const [key, item] of Object.entries(value)) {
    const own = withoutPrototypes(item);
    if (key !== '__proto__') copy[key] = own;
    else
      Object.defineProperty(copy, key, { value: own, enumerable: true, writable: true, configurable: true });
  }
  return Object.setPrototypeOf(copy, null) as unknown;
}
