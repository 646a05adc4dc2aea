// A host in the udp mode on a kernel in memory, with a data path that carries nothing.

import { UdpBackend } from '../../../../src/backend/udp/udp.js';
import type { PeerDiff } from '../../../../src/lease/lease.js';
import { type Address, formatAddress, type Prefix } from '../../../../src/net/prefix.js';
import { FakeClock } from '../../../support/fake-clock.js';
import { type HostWords, openHost } from '../../../support/fake-kernel-host.js';
import { FakeKernel } from '../../../support/fake-kernel.js';
import { FakeOpener } from './fake-dataplane.js';

export const PORT = 8285;

/** `networks`: those that the context knows as ours, when they are not those of the config alone. */
export async function openUdp(
  words: HostWords,
  {
    kernel = new FakeKernel(),
    networks,
  }: { kernel?: FakeKernel; networks?: readonly Prefix<Address>[] } = {},
) {
  const { context, log } = await openHost({ ...words, kernel });
  const clock = new FakeClock();
  const dataplanes = new FakeOpener(kernel);
  const asked: string[] = [];
  let sweeps = 0;
  const services = {
    removeLeftovers: () => Promise.resolve(void sweeps++),
    openGuard: () => {
      throw new Error('the udp mode has no guard');
    },
  };
  const backend = new UdpBackend(
    { ...context, kernel, services, networks: networks ?? context.networks },
    PORT,
    {
      openDataplane: dataplanes.open,
      checkPortIsFree: (address) => Promise.resolve(void asked.push(formatAddress(address))),
      lanePins: { folderOf: () => '', remove: () => Promise.resolve() },
      clock,
    },
  );
  const apply = async (diff: Partial<PeerDiff>): Promise<void> => {
    backend.apply({ added: [], changed: [], removed: [], ...diff });
    await backend.reconcile();
  };
  const states = () => backend.peerStatus().map((one) => (one.state === 'refused' ? one.code : one.state));
  const packetsIn = () => backend.status().counters?.outbound['packets_in'];
  /** Addresses whose port was asked for. */
  const ports = (): readonly string[] => asked;
  return {
    backend,
    kernel,
    clock,
    dataplanes,
    context,
    log,
    apply,
    states,
    packetsIn,
    ports,
    sweeps: () => sweeps,
  };
}
