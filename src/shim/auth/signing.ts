import { readFile } from "node:fs/promises";
import { importJWK, type JWK, type JWTPayload, jwtVerify, SignJWT } from "jose";
import { FailureError, waiting } from "../../failure.ts";

interface SigningKey {
  /** Signs. */
  key: Awaited<ReturnType<typeof importJWK>>;
  /** Verifies: of an EC key its public half. */
  check: Awaited<ReturnType<typeof importJWK>>;
  alg: string;
}

/** How often the Secret's files are read again, so that a rotation of keys needs no restart. */
const signingKeysFreshMs = 5000;

/** Signs and verifies the access tokens that this service gives out, with the keys of a mounted Secret. */
export class Signing {
  readonly #files: readonly string[];
  readonly #base: string;
  readonly #now: () => number;
  #read: { keys: Promise<SigningKey[]>; at: number } | undefined;

  /** @param base the FHIR base, which is issuer and audience of the tokens
   *  @param now milliseconds */
  constructor(files: readonly string[], base: string, now: () => number) {
    this.#files = files;
    this.#base = base;
    this.#now = now;
  }

  /** Signs an access token with the first key.
   *  @param seconds its life
   *  @throws waiting when a key cannot be read */
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

  /** The claims of a token; undefined when this service did not sign it, or when it has expired.
   *  @throws waiting when a key cannot be read */
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

/** @throws waiting, with a message that names the file's fault and nothing of its content */
async function readSigningKey(file: string): Promise<SigningKey> {
  const unusable = (problem: string, error?: unknown) =>
    waiting("Internal", `a file of auth.tokens.signingKeyFiles ${problem}`, error);
  try {
    const jwk = JSON.parse(await readFile(file, "utf8")) as JWK;
    if (jwk.kty === "oct") {
      if (Buffer.from(jwk.k ?? "", "base64url").length < 32)
        throw unusable("holds a key of fewer than 32 bytes; make a longer one");
      const key = await importJWK(jwk, "HS256");
      return { key, check: key, alg: "HS256" };
    }
    const alg = jwk.kty === "EC" ? { "P-256": "ES256", "P-384": "ES384" }[jwk.crv ?? ""] : undefined;
    if (!alg || !jwk.d)
      throw unusable("must be a JSON Web Key of kty oct, or a private one of kty EC with crv P-256 or P-384");
    const { d: _, ...open } = jwk;
    return { key: await importJWK(jwk, alg), check: await importJWK(open, alg), alg };
  } catch (error) {
    // never the library's own message, which may quote the key
    throw error instanceof FailureError ? error : unusable("cannot be read as a JSON Web Key");
  }
}
