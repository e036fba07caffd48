import type { Credentials } from "./open.ts";

export interface Token {
  value: string;
  /** ms that it is good for, from the moment it was asked for */
  lifeMs: number;
}

const marginMs = 60_000;

/** One access token for all chains, in memory only: fetched when first needed, renewed before it expires or when the source no longer takes it.
 *  However many ask at once, one request is under way. */
export class TokenHolder implements Credentials {
  readonly #fetch: () => Promise<Token>;
  readonly #close: () => Promise<void>;
  readonly #now: () => number;
  #current: { header: string; until: number } | undefined;
  #pending: Promise<string> | undefined;

  constructor(fetch: () => Promise<Token>, close: () => Promise<void> = async () => {}, now: () => number = Date.now) {
    this.#fetch = fetch;
    this.#close = close;
    this.#now = now;
  }

  async header(): Promise<string> {
    if (this.#current && this.#now() < this.#current.until) return this.#current.header;
    this.#pending ??= this.#renew().finally(() => (this.#pending = undefined));
    return this.#pending;
  }

  async #renew(): Promise<string> {
    // the answer may have been under way for long
    const asked = this.#now();
    const { value, lifeMs } = await this.#fetch();
    const header = `Bearer ${value}`;
    this.#current = { header, until: asked + lifeMs - Math.min(marginMs, lifeMs / 5) };
    return header;
  }

  /** It was revoked early. A chain that sent an older one than is held now only has to send again. */
  async renew(sent: string | undefined): Promise<boolean> {
    if (this.#current?.header === sent) this.#current = undefined;
    return true;
  }

  close(): Promise<void> {
    return this.#close();
  }
}
