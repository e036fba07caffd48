/** Remembers which assertions were used: each is good once (RFC 7523, SMART: jti). */
export interface Replay {
  /** @returns false when the assertion was used before, whichever replica took it
   *  @throws waiting when that cannot be told: then it must not be taken */
  first(issuer: string, jti: string, expires: Date): Promise<boolean>;
}
