// What flannel's programs agree on without being told. Pure values, so that every program of ours may load them.

/** UDP port of the udp mode. */
export const UDP_PORT = 8285;

/** UDP port of the vxlan mode: Linux's default since before IANA assigned 4789, which flanneld leaves to the kernel. */
export const VXLAN_PORT = 8472;

/** Where the daemon writes its subnet, and the CNI plugin and mk-docker-opts read it. */
export const SUBNET_FILE = '/run/flannel/subnet.env';
