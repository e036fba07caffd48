import { randomUUID } from "node:crypto";
import { importJWK, type JWK, SignJWT } from "jose";
import type { Task } from "../../contracts.ts";
import { terminal } from "../../failure.ts";
import type { AccessToken, ReadSecret } from "./credentials.ts";
import type { TokenClient } from "./oauth2.ts";

/** SMART allows 5 minutes by the server's clock. It may be behind ours, so a minute is left. */
const clientAssertionSeconds = 240;

/** SMART Backend Services: client credentials with an assertion that our private key signs.
 *  @returns asks for a token; it reads the key each time */
export function smartToken(
  client: TokenClient,
  auth: Task["source"]["auth"],
  secret: ReadSecret,
): () => Promise<AccessToken> {
  let endpoint = auth.tokenURL && client.checkEndpoint(auth.tokenURL, "spec.auth.smart.tokenURL of the FhirSource");
  return async () => {
    const key = parseClientKey(await secret("private-key.jwk"));
    endpoint ||= await client.discover();
    return client.token(endpoint, {
      form: {
        grant_type: "client_credentials",
        ...(auth.scope && { scope: auth.scope }),
        client_assertion_type: "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        client_assertion: await signAssertion(key, auth.clientID ?? "", endpoint),
      },
      toCheck:
        'clientID, and key "private-key.jwk" in its Secret, whose public half must be registered there under the same kid',
    });
  };
}

interface ClientKey {
  jwk: JWK;
  alg: "RS384" | "ES384";
  kid: string;
}

/** @throws terminal SourceUnauthorized. The message says what is wrong with the key and shows nothing of it. */
function parseClientKey(text: string): ClientKey {
  const wrong = (what: string) =>
    terminal("SourceUnauthorized", `key "private-key.jwk" in the Secret of the FhirSource's auth.smart ${what}`);
  let jwk: JWK | null;
  try {
    jwk = JSON.parse(text) as JWK | null;
  } catch {
    throw wrong("is not JSON; it must be one private JSON Web Key");
  }
  if (jwk === null || typeof jwk !== "object" || typeof jwk.kty !== "string")
    throw wrong("is not a JSON Web Key; it must be one private JSON Web Key");
  const alg = jwk.kty === "RSA" ? "RS384" : jwk.kty === "EC" && jwk.crv === "P-384" ? "ES384" : undefined;
  if (!alg) throw wrong("must be of kty RSA, or of kty EC with crv P-384");
  if (typeof jwk.d !== "string") throw wrong("is a public key; put the private one there");
  if (jwk.alg !== undefined && jwk.alg !== alg)
    throw wrong(`is for another algorithm than SMART's ${alg}; register a key for that one`);
  if (typeof jwk.kid !== "string" || jwk.kid === "")
    throw wrong("has no kid; it must be the one that the public key is registered under");
  return { jwk, alg, kid: jwk.kid };
}

async function signAssertion({ jwk, alg, kid }: ClientKey, clientID: string, audience: string): Promise<string> {
  try {
    return await new SignJWT({})
      .setProtectedHeader({ alg, kid, typ: "JWT" })
      .setIssuer(clientID)
      .setSubject(clientID)
      .setAudience(audience)
      .setJti(randomUUID())
      .setExpirationTime(Math.floor(Date.now() / 1000) + clientAssertionSeconds)
      .sign(await importJWK(jwk, alg));
  } catch {
    // The library's message is not used, since it may quote the key.
    throw terminal(
      "SourceUnauthorized",
      'key "private-key.jwk" in the Secret of the FhirSource\'s auth.smart is not a key that can sign',
    );
  }
}
