import { createLocalJWKSet, errors, type JSONWebKeySet, type JWTVerifyGetKey } from "jose";
import { waiting } from "../../failure.ts";

const keyRequestTimeoutMs = 5000;
const maxKeyDocumentBytes = 256 * 1024;
/** where the owner does not say how long its keys may be kept */
const defaultKeyLifeMs = 300_000;
/** and where it says too long: a key that is withdrawn must go */
const longestKeyLifeMs = 3_600_000;
/** so long apart, a kid that nobody knows makes us ask again: whoever sends junk must not make us hammer the owner */
const cooldownMs = 30_000;

/** The public keys at a URL, kept no longer than its Cache-Control allows (SMART: the server SHALL NOT cache them longer). */
export class RemoteKeys {
  readonly #url: () => Promise<string>;
  readonly #now: () => number;
  #known: { keys: ReturnType<typeof createLocalJWKSet>; until: number; at: number } | undefined;
  #running: Promise<void> | undefined;

  /** @param url may be looked up first
   *  @param now milliseconds */
  constructor(url: () => Promise<string>, now: () => number) {
    this.#url = url;
    this.#now = now;
  }

  /** For jose. It fails with JWKSNoMatchingKey, JWKSMultipleMatchingKeys, or waiting when the keys cannot be had. */
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
      this.#known = { keys, at, until: at + lifeOf(headers.get("cache-control")) };
    } catch (error) {
      throw waiting("Internal", "a JWKS is not a JSON Web Key Set", error);
    }
  }
}

/** milliseconds */
function lifeOf(cacheControl: string | null): number {
  if (cacheControl === null) return defaultKeyLifeMs;
  if (/\bno-(store|cache)\b/i.test(cacheControl)) return 0;
  const seconds = /\bmax-age=(\d{1,9})\b/i.exec(cacheControl)?.[1];
  return seconds === undefined ? defaultKeyLifeMs : Math.min(Number(seconds) * 1000, longestKeyLifeMs);
}

/** A small JSON document of somebody else. @throws waiting without its content or address */
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
      if (bytes > maxKeyDocumentBytes) throw new Error("it is too large");
      parts.push(part);
    }
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    return { body: JSON.parse(Buffer.concat(parts).toString()), headers: answer.headers };
  } catch (error) {
    throw waiting("Internal", "a JWKS or a discovery document cannot be had", error);
  }
}
