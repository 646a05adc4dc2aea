// One value for each address family that a network, a host or a lease has: IPv4, IPv6, or both.

/** At least one of the two is there. `V4` and `V6` differ where the value itself is of a family. */
export type Dual<V4, V6 = V4> = WithV4<V4, V6> | WithV6<V4, V6>;

/** A pair whose IPv4 half is there. */
export interface WithV4<V4, V6 = V4> {
  readonly v4: V4;
  readonly v6?: V6;
}

/** A pair whose IPv6 half is there. */
export interface WithV6<V4, V6 = V4> {
  readonly v4?: V4;
  readonly v6: V6;
}

export type FamilyName = 'v4' | 'v6';

/** The families that are there, IPv4 first. */
export function familiesOf(dual: Dual<unknown>): FamilyName[] {
  return (['v4', 'v6'] as const).filter((family) => dual[family] !== undefined);
}

/** The value of the first family that is there, IPv4 before IPv6. */
export function firstOf<V4, V6>(dual: Dual<V4, V6>): V4 | V6 {
  return (dual.v4 ?? dual.v6) as V4 | V6;
}

/** The pair of two values, of which one at least is there. Throws TypeError without. */
export function dualOf<V4, V6>(v4: V4 | undefined, v6: V6 | undefined): Dual<V4, V6> {
  if (v6 === undefined && v4 === undefined) throw new TypeError('a pair of nothing');
  if (v6 === undefined) return { v4: v4 as V4 };
  return v4 === undefined ? { v6 } : { v4, v6 };
}

/** The pair of what `change` makes of each value that is there. */
export function mapDual<V4, V6, To>(
  dual: Dual<V4, V6>,
  change: (value: V4 | V6, family: FamilyName) => To,
): Dual<To> {
  const { v4, v6 } = dual;
  if (v6 === undefined) return { v4: change(v4 as V4, 'v4') };
  return v4 === undefined ? { v6: change(v6, 'v6') } : { v4: change(v4, 'v4'), v6: change(v6, 'v6') };
}

/** Whether both have the same families, with values that are the same. */
export function sameDual<V4, V6>(
  a: Dual<V4, V6>,
  b: Dual<V4, V6>,
  isSame: (a: V4 | V6, b: V4 | V6) => boolean = Object.is,
): boolean {
  const isSameHalf = (one: V4 | V6 | undefined, other: V4 | V6 | undefined): boolean =>
    one === undefined || other === undefined ? one === other : isSame(one, other);
  return isSameHalf(a.v4, b.v4) && isSameHalf(a.v6, b.v6);
}
