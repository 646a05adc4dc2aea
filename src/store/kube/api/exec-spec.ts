// What a kubeconfig says of an exec plugin: a program that gets credentials for a user.

/** The versions of its protocol; v1alpha1 is gone from client-go, too. */
export const EXEC_VERSIONS = [
  'client.authentication.k8s.io/v1',
  'client.authentication.k8s.io/v1beta1',
] as const;

export type ExecVersion = (typeof EXEC_VERSIONS)[number];

export interface ExecSpec {
  readonly version: ExecVersion;
  /** A path, or a name to be searched in PATH. */
  readonly command: string;
  readonly args: readonly string[];
  /** Added to the environment of this process. */
  readonly env: readonly (readonly [name: string, value: string])[];
  /** Whether the plugin is told which cluster it is for. */
  readonly wantsCluster: boolean;
  /** For people, when the program is missing. */
  readonly installHint: string | undefined;
}
