import { createLocalJWKSet, errors, type JSONWebKeySet, type JWTVerifyGetKey } from "jose";
import { waiting } from "../../failure.ts";

const keyRequestTimeoutMs = 5000;
const maxKeyDocumentBytes = 256 * 1024;
/** How long keys are kept whose owner does not say it. */
const defaultKeyLifeMs = 300_000;
/** The longest that keys are kept, whatever their owner says: a withdrawn key must not be accepted for days. */
const longestKeyLifeMs = 3_600_000;
/** The least time between two requests for keys that an unknown kid causes: a client that sends junk must not make
 *  this service flood the owner of the keys. */
const cooldownMs = 30_000;

/** The public keys at a URL, kept no longer than its Cache-Control allows, as SMART demands. */
export class RemoteKeys {
  readonly #url: () => Promise<string>;
  readonly #now: () => number;
  #known: { keys: ReturnType<typeof createLocalJWKSet>; until: number; at: number } | undefined;
  #running: Promise<void> | undefined;

  /** @param url gives the keys' URL, which may have to be discovered
   *  @param now milliseconds */
  constructor(url: () => Promise<string>, now: () => number) {
    this.#url = url;
    this.#now = now;
  }

  /** Finds the key of a token, for jose.
   *  @throws JWKSNoMatchingKey, JWKSMultipleMatchingKeys; waiting when the keys cannot be fetched */
  readonly get: JWTVerifyGetKey = async (header, token) => {
    if (!this.#known || this.#now() >= this.#known.until) await this.#fetch();
    try {
      return await this.#known!.keys(header, token);
    } catch (error) {
      if (!(error instanceof errors.JWKSNoMatchingKey) || this.#now() - this.#known!.at < cooldownMs) throw error;
      await this.#fetch();
      return this.#known!.keys(header, token);
    }
  };

  #fetch(): Promise<void> {
    this.#running ??= this.#read().finally(() => (this.#running = undefined));
    return this.#running;
  }

  async #read(): Promise<void> {
    const { body, headers } = await fetchJSON(await this.#url());
    const at = this.#now();
    try {
      const keys = createLocalJWKSet(body as JSONWebKeySet);
      this.#known = { keys, at, until: at + keyLifeMs(headers.get("cache-control")) };
    } catch (error) {
      throw waiting("Internal", "the document at a jwksURL or jwks_uri is not a JSON Web Key Set", error);
    }
  }
}

/** How long keys may be kept, in milliseconds. */
function keyLifeMs(cacheControl: string | null): number {
  if (cacheControl === null) return defaultKeyLifeMs;
  if (/\bno-(store|cache)\b/i.test(cacheControl)) return 0;
  const seconds = /\bmax-age=(\d{1,9})\b/i.exec(cacheControl)?.[1];
  return seconds === undefined ? defaultKeyLifeMs : Math.min(Number(seconds) * 1000, longestKeyLifeMs);
}

/** Fetches a small JSON document of another server.
 *  @throws waiting, with a message that holds neither its content nor its URL */
export async function fetchJSON(url: string): Promise<{ body: unknown; headers: Headers }> {
  try {
    const answer = await fetch(url, {
      headers: { accept: "application/json" },
      redirect: "error",
      signal: AbortSignal.timeout(keyRequestTimeoutMs),
    });
    const parts: Uint8Array[] = [];
    let bytes = 0;
    for await (const part of answer.body ?? []) {
      bytes += part.length;
      if (bytes > maxKeyDocumentBytes) throw new Error(`more than ${maxKeyDocumentBytes} bytes`);
      parts.push(part);
    }
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    return { body: JSON.parse(Buffer.concat(parts).toString()), headers: answer.headers };
  } catch (error) {
    throw waiting(
      "Internal",
      "a JWKS or a discovery document cannot be fetched; check jwksURL and issuer.url of the settings' auth, and the network",
      error,
    );
  }
}
