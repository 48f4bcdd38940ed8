/** Something about this machine or a folder that its user has to change. The message says what. */
export class SetupError extends Error {
  override name = 'SetupError';
}
