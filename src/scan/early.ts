/** The next link of a search page, from its first bytes, cut anywhere; undefined: not known yet, or there is none. A guess: what the whole page says counts. */
export function earlyNext(_head: Uint8Array): string | undefined {
  return undefined;
}

/** The next link of an HTTP `Link` header (RFC 8288). */
export function linkHeaderNext(_value: string | string[] | undefined): string | undefined {
  return undefined;
}
