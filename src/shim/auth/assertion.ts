import { createLocalJWKSet, decodeJwt, decodeProtectedHeader, errors, type JWTVerifyGetKey, jwtVerify } from "jose";
import { FailureError } from "../../failure.ts";
import type { ClientConfig } from "./config.ts";
import { RemoteKeys } from "./keys.ts";
import type { Replay } from "./replay.ts";

/** clocks differ */
const leewaySeconds = 60;
const assertionLifeSeconds = 300;
const algorithms = ["RS384", "ES384"];

/** Client assertions of SMART Backend Services, against the keys that the clients have registered. */
export class Assertions {
  readonly #clients: ReadonlyMap<string, ClientConfig>;
  readonly #keys = new Map<string, JWTVerifyGetKey>();
  readonly #audience: string;
  readonly #replay: Replay;
  readonly #now: () => number;

  /** @param audience the token endpoint's URL
   *  @param now milliseconds */
  constructor(clients: readonly ClientConfig[], audience: string, replay: Replay, now: () => number) {
    this.#clients = new Map(clients.map((client) => [client.id, client]));
    for (const { id, jwks, jwksURL } of clients)
      this.#keys.set(id, jwks ? createLocalJWKSet(jwks) : new RemoteKeys(async () => jwksURL!, now).get);
    this.#audience = audience;
    this.#replay = replay;
    this.#now = now;
  }

  /** The client that an assertion proves to be there; a text that says why not (RFC 7523 section 3, SMART), without anything of it.
   *  @throws waiting when keys or the memory of used assertions cannot be had */
  async verify(assertion: string): Promise<ClientConfig | string> {
    let header: ReturnType<typeof decodeProtectedHeader>;
    let claims: ReturnType<typeof decodeJwt>;
    try {
      header = decodeProtectedHeader(assertion);
      claims = decodeJwt(assertion);
    } catch {
      return "the assertion is not a JWT";
    }
    if (!algorithms.includes(header.alg ?? "")) return "the assertion must be signed with RS384 or ES384";
    if (typeof header.kid !== "string" || header.kid === "") return "the assertion's header has no kid";
    if (header.typ?.toUpperCase() !== "JWT") return "the assertion's header must have typ JWT";
    if (claims.iss === undefined || claims.iss !== claims.sub)
      return "the assertion's iss and sub must both be the client's id";
    const client = this.#clients.get(claims.iss);
    if (!client || client.disabled) return "the client is not registered";
    if (header.jku !== undefined && header.jku !== client.jwksURL)
      return "the assertion's jku is not the URL that the client has registered";
    const { exp, jti } = claims;
    const now = this.#now() / 1000;
    if (typeof exp !== "number") return "the assertion has no exp";
    if (exp > now + assertionLifeSeconds + leewaySeconds)
      return "the assertion's exp is more than five minutes from now";
    if (typeof jti !== "string" || jti === "" || jti.length > 256) return "the assertion has no jti";
    try {
      await jwtVerify(assertion, this.#keys.get(client.id)!, {
        algorithms,
        issuer: client.id,
        subject: client.id,
        audience: this.#audience,
        clockTolerance: leewaySeconds,
        currentDate: new Date(this.#now()),
      });
    } catch (error) {
      if (error instanceof FailureError) throw error;
      return assertionProblem(error);
    }
    const used = !(await this.#replay.first(client.id, jti, new Date((exp + leewaySeconds) * 1000)));
    return used ? "the assertion was used before: its jti must be new each time" : client;
  }
}

/** jose's messages are its own; ours name what the client has to mend. */
function assertionProblem(error: unknown): string {
  if (error instanceof errors.JWKSNoMatchingKey)
    return "the client has not registered a key of the assertion's kid for its algorithm";
  if (error instanceof errors.JWKSMultipleMatchingKeys)
    return "the client has registered more than one key of the assertion's kid";
  if (error instanceof errors.JWTExpired) return "the assertion has expired";
  if (error instanceof errors.JWTClaimValidationFailed && error.claim === "aud")
    return "the assertion's aud must be the URL of this token endpoint";
  if (error instanceof errors.JWTClaimValidationFailed) return `the assertion's ${error.claim} is not right`;
  return "the assertion's signature is not the client's";
}
