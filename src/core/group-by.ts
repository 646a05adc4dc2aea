// Grouping, as Map.groupBy does it where there is one; Node 20 has none.

/** `items` by `keyOf`: the keys in the order in which they are met first, the members of each in theirs. O(items). */
export function groupBy<Item, Key>(items: Iterable<Item>, keyOf: (item: Item) => Key): Map<Key, Item[]> {
  const groups = new Map<Key, Item[]>();
  for (const item of items) {
    const key = keyOf(item);
    const members = groups.get(key);
    if (members === undefined) groups.set(key, [item]);
    else members.push(item);
  }
  return groups;
}
