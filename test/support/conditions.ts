// What a part of the daemon says is wrong, in its words.

import type { Condition } from '../../src/core/conditions.js';

export function textsOf(part: { conditions(): readonly Condition[] }): string[] {
  return part.conditions().map(({ text }) => text);
}

export function codesOf(part: { conditions(): readonly Condition[] }): string[] {
  return part.conditions().map(({ code }) => code);
}
