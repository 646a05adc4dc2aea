// Names and marks of the devices the modes leave in the kernel, so that each mode can tell those of the others.

/** TUN device of the udp mode; persistent only when it is ours. */
export const UDP_DEVICE = 'flannel0';

/** VXLAN device of a VNI. */
export function vxlanDeviceName(vni: number): string {
  return `flannel.${vni}`;
}

/** Alias of VXLAN devices of ours, or taken over by us; first word of the alias of the TUN, its address is the second. */
export const DEVICE_ALIAS = 'twill';
