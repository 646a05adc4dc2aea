// Which package of a series is taken.

import t from 'tap';
import { newestOf } from '../../kernels/kernel-package.js';

const NAMES = [
  'linux-image-6.1.0-47-amd64',
  'linux-image-6.1.0-9-amd64',
  'linux-image-6.1.0-56-amd64-unsigned',
  'linux-image-6.1.0-56-cloud-amd64',
  'linux-image-6.12.99+deb12-amd64',
  'linux-image-6.12.117+deb12-amd64',
  'linux-image-6.12.117+deb12-rt-amd64',
  'linux-image-amd64',
];

for (const [series, expected] of [
  ['6.1', 'linux-image-6.1.0-47-amd64'],
  ['6.12', 'linux-image-6.12.117+deb12-amd64'],
  ['5.10', undefined],
] as const) {
  t.test(`newestOf() the names of ${series}`, (t) => {
    t.equal(newestOf(NAMES, series), expected);
    t.end();
  });
}
