// What may be the name of a network interface of ours. The kernel (dev_valid_name) allows any byte but "/", ":" and
// space, so "a\";{}$(id)" is a legal name; we pass names to tools and build paths from them, and accept far less.

const INTERFACE_NAME = /^[A-Za-z0-9_.@-]{1,15}$/;

/** Names that are folders or wildcards under /proc/sys/net/ipv4/conf rather than an interface. */
const RESERVED = new Set(['.', '..', 'all', 'default']);

/** Whether `name` is 1 to 15 bytes of letters, digits and `_ . @ -`, and no reserved word. */
export function isInterfaceName(name: string): boolean {
  return INTERFACE_NAME.test(name) && !RESERVED.has(name);
}

/** `name` itself. Throws TypeError when it may not be used: a caller's mistake, since config is validated before. */
export function checkInterfaceName(name: string): string {
  if (!isInterfaceName(name)) {
    throw new TypeError(
      `Interface name ${JSON.stringify(name)}: expected 1 to 15 of letters, digits, "_", ".", "@", "-"`,
    );
  }
  return name;
}
