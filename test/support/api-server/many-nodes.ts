// Nodes as big as kubelets make them, by the thousand, and their reports.
//
// A kubelet reports every 10 s when something changed and every 5 min else; a storm is all of them at once.

import { type ApiObject, asObject, formatTime, objectAt } from './api-object.js';
import { readRecordings } from './recordings.js';

const IMAGES = 50;

/** Node `index`, 0 to 65,535, with 15 KB of JSON: 10.x.y.0/24 behind 172.24.x.y, annotated as flannel's for `mode`. */
export function reportedNode(index: number, mode: 'udp' | 'vxlan' = 'vxlan'): ApiObject {
  const [high, low] = [index >> 8, index & 255];
  const name = `w${String(index).padStart(5, '0')}`;
  const model = readModel();
  const metadata = objectAt(model, 'metadata');
  const mac = [high, low].map((byte) => byte.toString(16).padStart(2, '0')).join(':');
  const vtep = { VNI: 1, VtepMAC: `02:00:00:${mac}:01` };
  const isVxlan = mode === 'vxlan';
  const podCIDR = `10.${high}.${low}.0/24`;
  const annotations = {
    ...objectAt(metadata, 'annotations'),
    'flannel.alpha.coreos.com/backend-data': JSON.stringify(isVxlan ? vtep : null),
    'flannel.alpha.coreos.com/backend-type': isVxlan ? mode : '',
    'flannel.alpha.coreos.com/public-ip': `172.24.${high}.${low}`,
  };
  const labels = { ...objectAt(metadata, 'labels'), 'kubernetes.io/hostname': name };
  const addresses = [
    { type: 'InternalIP', address: `172.24.${high}.${low}` },
    { type: 'Hostname', address: name },
  ];
  return {
    ...model,
    metadata: { ...metadata, name, labels, annotations },
    spec: { ...objectAt(model, 'spec'), podCIDR, podCIDRs: [podCIDR] },
    status: { ...objectAt(model, 'status'), addresses, images: imagesOf(index) },
  };
}

let model: ApiObject | undefined;

function readModel(): ApiObject {
  return (model ??= readRecordings<ApiObject>('node-as-kubelet-reports')[0]);
}

function imagesOf(index: number): ApiObject[] {
  return Array.from({ length: IMAGES }, (_, i) => {
    const name = `registry.example.com/platform-team/service-${String((index + i) % 1000).padStart(3, '0')}`;
    const digest = String(index * IMAGES + i).padStart(64, '0');
    return {
      names: [`${name}@sha256:${digest}`, `${name}:v1.${i}.${index}`],
      sizeBytes: 100_000_000 - 1000 * i,
    };
  });
}

/** The node after a report of its kubelet: nothing but times. */
export function afterReport(node: ApiObject, now: Date): ApiObject {
  const time = formatTime(now);
  const status = objectAt(node, 'status');
  const conditions = Array.isArray(status.conditions) ? (status.conditions as unknown[]) : [];
  const renewed = conditions.map((condition) => ({ ...asObject(condition), lastHeartbeatTime: time }));
  return { ...node, status: { ...status, conditions: renewed } };
}

/** Calls `report` with the numbers 0 to `count` - 1 in turn, `perSecond` times a second. The result ends that. */
export function startStorm(perSecond: number, count: number, report: (index: number) => void): () => void {
  const startMs = performance.now();
  let done = 0;
  const timer = setInterval(() => {
    const due = Math.floor(((performance.now() - startMs) * perSecond) / 1000);
    // What could not be kept up with is left out, or one stall would be followed by a burst.
    if (due - done > perSecond) done = due - perSecond;
    for (; done < due; done++) report(done % count);
  }, 10);
  return () => clearInterval(timer);
}
