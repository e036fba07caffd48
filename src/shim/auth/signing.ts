import { readFile } from "node:fs/promises";
import { importJWK, type JWK, type JWTPayload, jwtVerify, SignJWT } from "jose";
import { FailureError, waiting } from "../../failure.ts";

interface SigningKey {
  key: Awaited<ReturnType<typeof importJWK>>;
  /** for verifying: an EC key's public half */
  check: Awaited<ReturnType<typeof importJWK>>;
  alg: string;
}

/** the Secret's files are looked at again after so long: a rotation needs no restart */
const signingKeysFreshMs = 5000;

/** Signs and checks our own access tokens with the keys of a mounted Secret. */
export class Signing {
  readonly #files: readonly string[];
  readonly #base: string;
  readonly #now: () => number;
  #read: { keys: Promise<SigningKey[]>; at: number } | undefined;

  /** @param base issuer and audience */
  constructor(files: readonly string[], base: string, now: () => number) {
    this.#files = files;
    this.#base = base;
    this.#now = now;
  }

  /** @throws waiting when no key can be read */
  async sign(claims: JWTPayload, client: string, jti: string, seconds: number): Promise<string> {
    const { key, alg } = (await this.#keys())[0]!;
    const now = Math.floor(this.#now() / 1000);
    return new SignJWT(claims)
      .setProtectedHeader({ alg, typ: "at+jwt" })
      .setIssuer(this.#base)
      .setAudience(this.#base)
      .setSubject(client)
      .setJti(jti)
      .setIssuedAt(now)
      .setExpirationTime(now + seconds)
      .sign(key);
  }

  /** undefined when it is none of ours, or has expired */
  async verify(token: string): Promise<JWTPayload | undefined> {
    for (const { check, alg } of await this.#keys()) {
      const found = await jwtVerify(token, check, {
        algorithms: [alg],
        issuer: this.#base,
        audience: this.#base,
        typ: "at+jwt",
        requiredClaims: ["exp", "sub"],
        currentDate: new Date(this.#now()),
      }).catch(() => undefined);
      if (found) return found.payload;
    }
    return undefined;
  }

  #keys(): Promise<SigningKey[]> {
    if (!this.#read || this.#now() - this.#read.at >= signingKeysFreshMs) {
      const keys = Promise.all(this.#files.map(readSigningKey));
      this.#read = { keys, at: this.#now() };
      keys.catch(() => (this.#read = undefined));
    }
    return this.#read.keys;
  }
}

/** @throws waiting, naming the file's fault and nothing of its content */
async function readSigningKey(file: string): Promise<SigningKey> {
  const wrong = (what: string, error?: unknown) =>
    waiting("Internal", `a file of auth.tokens.signingKeyFiles ${what}`, error);
  try {
    const jwk = JSON.parse(await readFile(file, "utf8")) as JWK;
    if (jwk.kty === "oct") {
      if (Buffer.from(jwk.k ?? "", "base64url").length < 32) throw wrong("holds fewer than 32 bytes");
      const key = await importJWK(jwk, "HS256");
      return { key, check: key, alg: "HS256" };
    }
    const alg = jwk.kty === "EC" ? { "P-256": "ES256", "P-384": "ES384" }[jwk.crv ?? ""] : undefined;
    if (!alg || !jwk.d)
      throw wrong("must be a JSON Web Key of kty oct, or a private one of kty EC with crv P-256 or P-384");
    const { d: _, ...open } = jwk;
    return { key: await importJWK(jwk, alg), check: await importJWK(open, alg), alg };
  } catch (error) {
    // the library's message may quote the key
    throw error instanceof FailureError ? error : wrong("cannot be read as a JSON Web Key");
  }
}
