/** Remembers which assertions were used, by their jti: each may be used once (RFC 7523, SMART). */
export interface Replay {
  /** Marks an assertion as used.
   *  @param expires until when it has to be remembered
   *  @returns false when it was used before, at whichever replica
   *  @throws waiting when that cannot be told: then the assertion must not be accepted */
  first(issuer: string, jti: string, expires: Date): Promise<boolean>;
}
