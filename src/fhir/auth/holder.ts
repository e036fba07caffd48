import type { AccessToken, SourceCredentials } from "./credentials.ts";

const marginMs = 60_000;

/** Holds one access token for all chains, in memory only. It is fetched when it is first needed, and renewed before it
 *  expires or when the source refuses it. However many chains ask for it at once, only one request is sent to the token
 *  endpoint. */
export class TokenHolder implements SourceCredentials {
  readonly #fetch: () => Promise<AccessToken>;
  readonly #close: () => Promise<void>;
  readonly #now: () => number;
  #current: { header: string; until: number } | undefined;
  #pending: Promise<string> | undefined;

  constructor(
    fetch: () => Promise<AccessToken>,
    close: () => Promise<void> = async () => {},
    now: () => number = Date.now,
  ) {
    this.#fetch = fetch;
    this.#close = close;
    this.#now = now;
  }

  async header(): Promise<string> {
    if (this.#current && this.#now() < this.#current.until) return this.#current.header;
    this.#pending ??= this.#fetchHeader().finally(() => (this.#pending = undefined));
    return this.#pending;
  }

  async #fetchHeader(): Promise<string> {
    // The life of the token is counted from here, since the answer may take long to arrive.
    const asked = this.#now();
    const { value, lifeMs } = await this.#fetch();
    const header = `Bearer ${value}`;
    this.#current = { header, until: asked + lifeMs - Math.min(marginMs, lifeMs / 5) };
    return header;
  }

  /** The token was revoked early. A chain that sent an older token than the one held now only has to send its request
   *  again. */
  async renew(sent: string | undefined): Promise<boolean> {
    if (this.#current?.header === sent) this.#current = undefined;
    return true;
  }

  close(): Promise<void> {
    return this.#close();
  }
}
