// Values of our own options that several layers know by type.

/** Which received packets are let in; dataplane/inbound.ts has the table. */
export const SOURCE_CHECKS = ['strict', 'loose', 'audit', 'off'] as const;
export type SourceCheck = (typeof SOURCE_CHECKS)[number];

/** Whether segmentation offloads are used where the kernel grants them. */
export const OFFLOADS = ['auto', 'off'] as const;
export type Offload = (typeof OFFLOADS)[number];

/** Where the program `twill` asks the daemon. */
export const DEFAULT_CONTROL_SOCKET = '/run/twill/twilld.sock';

/** Most queues a TUN device can have (MAX_TAP_QUEUES, drivers/net/tun.c). */
export const MAX_QUEUES = 256;
