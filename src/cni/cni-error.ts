// What a CNI plugin answers when it cannot do what it was asked: one JSON object on stdout and exit code 1.

/** Error codes of the CNI specification, section "Error", and of its skeleton. */
export const CNI_ERROR = {
  incompatibleVersion: 1,
  unknownContainer: 3,
  badEnvironment: 4,
  io: 5,
  undecodable: 6,
  badConfig: 7,
  sameNamespace: 8,
  notAvailable: 50,
  internal: 999,
} as const;

/** A failure with the code a runtime expects. */
export class CniError extends Error {
  override readonly name = 'CniError';
  readonly code: number;
  readonly details: string;

  constructor(code: number, message: string, details = '') {
    super(message);
    this.code = code;
    this.details = details;
  }

  /** The object for stdout. */
  toJson(cniVersion: string): string {
    const { code, message: msg, details } = this;
    return JSON.stringify(details === '' ? { cniVersion, code, msg } : { cniVersion, code, msg, details });
  }
}
