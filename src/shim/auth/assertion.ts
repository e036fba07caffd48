import {
  createLocalJWKSet,
  decodeJwt,
  decodeProtectedHeader,
  errors,
  type JWTPayload,
  type JWTVerifyGetKey,
  jwtVerify,
  type ProtectedHeaderParameters,
} from "jose";
import { FailureError } from "../../failure.ts";
import type { ClientConfig } from "./config.ts";
import { RemoteKeys } from "./keys.ts";
import type { Replay } from "./replay.ts";

/** How far the clocks of a client and of this service may differ. */
const leewaySeconds = 60;
/** The longest life of an assertion that SMART allows. */
const assertionLifeSeconds = 300;
const algorithms = ["RS384", "ES384"];

type VerifiedAssertion =
  | { kind: "client"; client: ClientConfig }
  | {
      kind: "refused";
      /** What the client has to mend; it quotes nothing of the assertion. */
      problem: string;
    };

const refuseAssertion = (problem: string): VerifiedAssertion => ({ kind: "refused", problem });

/** Verifies client assertions of SMART Backend Services by the keys that the clients have registered. */
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

  /** Finds the client that sent an assertion (RFC 7523 section 3, SMART).
   *
   *  1. Check header and claims, which needs no key: junk causes no request.
   *  2. Verify the signature with the client's key.
   *  3. Mark it as used. This comes last, so that a refused assertion uses up no jti.
   *
   *  @throws waiting when the client's keys, or the memory of used assertions, cannot be reached */
  async verify(assertion: string): Promise<VerifiedAssertion> {
    let header: ReturnType<typeof decodeProtectedHeader>;
    let claims: ReturnType<typeof decodeJwt>;
    try {
      header = decodeProtectedHeader(assertion);
      claims = decodeJwt(assertion);
    } catch {
      return refuseAssertion("the assertion is not a JWT");
    }
    const client = this.#clients.get(claims.iss ?? "");
    const problem =
      headerProblem(header) ?? senderProblem(header, claims, client) ?? lifeProblem(claims, this.#now() / 1000);
    if (problem !== undefined || !client) return refuseAssertion(problem ?? notRegistered);
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
      return refuseAssertion(signatureProblem(error));
    }
    const expires = new Date((claims.exp! + leewaySeconds) * 1000);
    return (await this.#replay.first(client.id, claims.jti!, expires))
      ? { kind: "client", client }
      : refuseAssertion("the assertion was used before; its jti must be new each time");
  }
}

function headerProblem({ alg, kid, typ }: ProtectedHeaderParameters): string | undefined {
  if (!algorithms.includes(alg ?? "")) return "the assertion must be signed with RS384 or ES384";
  if (typeof kid !== "string" || kid === "") return "the assertion's header has no kid";
  return typ?.toUpperCase() === "JWT" ? undefined : "the assertion's header must have typ JWT";
}

const notRegistered = "the client is not registered";

/** @param client that is registered under the assertion's iss */
function senderProblem(
  { jku }: ProtectedHeaderParameters,
  { iss, sub }: JWTPayload,
  client: ClientConfig | undefined,
): string | undefined {
  if (iss === undefined || iss !== sub) return "the assertion's iss and sub must both be the client's id";
  if (!client || client.disabled) return notRegistered;
  return jku !== undefined && jku !== client.jwksURL
    ? "the assertion's jku is not the URL that the client has registered"
    : undefined;
}

/** @param now seconds */
function lifeProblem({ exp, jti }: JWTPayload, now: number): string | undefined {
  if (typeof exp !== "number") return "the assertion has no exp";
  if (exp > now + assertionLifeSeconds + leewaySeconds) return "the assertion's exp is more than five minutes from now";
  return typeof jti !== "string" || jti === "" || jti.length > 256
    ? "the assertion has no jti of 1 to 256 characters"
    : undefined;
}

/** Why jose refuses an assertion. Its own messages may quote it; these name what the client has to mend. */
function signatureProblem(error: unknown): string {
  if (error instanceof errors.JWKSNoMatchingKey)
    return "the client has not registered a key with the assertion's kid and algorithm";
  if (error instanceof errors.JWKSMultipleMatchingKeys)
    return "the client has registered more than one key with the assertion's kid";
  if (error instanceof errors.JWTExpired) return "the assertion has expired";
  if (error instanceof errors.JWTClaimValidationFailed && error.claim === "aud")
    return "the assertion's aud must be the URL of this token endpoint";
  if (error instanceof errors.JWTClaimValidationFailed) return `the assertion's ${error.claim} is missing or not valid`;
  return "the assertion's signature does not fit the key that the client has registered";
}
