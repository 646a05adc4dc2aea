// A folder of a test's own.

import type { Test } from 'tap';

/**
 * Path of a new folder that holds `files`, and is removed after all else that the test tears down.
 *
 * A bare t.testdir() is removed before the teardowns that come after it, while what they would close still writes
 * there; and when that makes the removal fail, none of them runs.
 */
export function folderOf(t: Test, files: Parameters<Test['testdir']>[0] = {}): string {
  t.teardown(() => undefined); // teardowns are run where the first of them was added; the removal comes after
  return t.testdir(files); // eslint-disable-line no-restricted-syntax -- the one place
}
