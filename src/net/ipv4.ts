// IPv4 addresses as plain numbers, the form in which every layer above passes them.
//
// An address is an unsigned 32-bit integer in host order (10.5.1.0 is 0x0a050100). Its type is branded, so that a
// length, a port or the sum of two addresses is not taken for one; at run time it is a number and nothing else, since
// the tables of the data path hold it in typed arrays. Text is parsed strictly: four decimal octets, no leading zeros,
// so that "010.0.0.1" is never taken for 8.0.0.1 as inet_aton would (RFC 6943, section 3.1.1).

declare const IPV4: unique symbol;

/** An IPv4 address: unsigned 32-bit integer, host order. */
export type Ipv4 = number & { readonly [IPV4]: true };

/** "255.255.255.255". */
const MAX_TEXT = 15;
const DIGIT_0 = 48;
/** Before the digits in ASCII. */
const DOT = -2;

/** The address that a calculation arrived at. Throws RangeError for a number that is no address. */
export function ipv4(value: number): Ipv4 {
  if (value >>> 0 !== value) throw new RangeError(`${value} is no IPv4 address`);
  return value as Ipv4;
}

/** The address written in `text`, or undefined when it is not a strict dotted quad. */
export function parseIpv4(text: string): Ipv4 | undefined {
  if (text.length > MAX_TEXT) return undefined;
  let address = 0;
  let dots = 0;
  let octet = -1; // no digit yet
  for (let i = 0; i < text.length; i++) {
    const digit = text.charCodeAt(i) - DIGIT_0;
    if (digit === DOT) {
      if (octet < 0) return undefined;
      address = address * 256 + octet;
      octet = -1;
      dots++;
    } else {
      if (digit < 0 || digit > 9 || octet === 0) return undefined;
      octet = octet < 0 ? digit : octet * 10 + digit;
      if (octet > 255) return undefined;
    }
  }
  return dots === 3 && octet >= 0 ? ((address * 256 + octet) as Ipv4) : undefined;
}

/** Dotted-quad text of an address. */
export function formatIpv4(address: Ipv4): string {
  return `${address >>> 24}.${(address >>> 16) & 255}.${(address >>> 8) & 255}.${address & 255}`;
}
