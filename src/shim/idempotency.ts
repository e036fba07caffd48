/** The header Idempotency-Key: a kick-off that is repeated with the same key gives the same export, whichever
 *  replica takes it. Pure. */
import { createHash } from "node:crypto";
import type { FhirExport } from "../api/fhirexport.gen.ts";
import { annotations } from "../api/names.ts";
import { errorAnswer, type HttpAnswer, type Issue, unavailable } from "./outcome.ts";
import type { SpecParts } from "./parameters.ts";

type IdempotencyKey = { kind: "absent" } | { kind: "key"; key: string } | { kind: "malformed"; issue: Issue };

/** Reads the header (draft-ietf-httpapi-idempotency-key-header): a string, mostly a UUID. Some clients put it into
 *  quotes, others do not. */
export function readIdempotencyKey(header: string | string[] | undefined): IdempotencyKey {
  if (header === undefined) return { kind: "absent" };
  const key = /^"?([\x21\x23-\x7e]{1,255})"?$/.exec(String(header))?.[1];
  return key === undefined ? { kind: "malformed", issue: malformedKey } : { kind: "key", key };
}

const malformedKey: Issue = {
  code: "invalid",
  text: "the header Idempotency-Key must be 1 to 255 visible characters, for example a UUID",
};

const base32 = "abcdefghijklmnopqrstuvwxyz234567";

/** The name of a new export: `export-` and 26 base32 characters, which are 130 bits that nobody guesses. With a key the
 *  name follows from client and key, so that a repeated kick-off meets the object of the first one.
 *  @param key the client's Idempotency-Key */
export function exportName(client: string, key: string | undefined, random: (bytes: number) => Uint8Array): string {
  const bytes =
    key === undefined
      ? random(26)
      : createHash("sha256")
          .update(JSON.stringify([client, key]))
          .digest()
          .subarray(0, 26);
  return `export-${Array.from(bytes, (byte) => base32[byte & 31]).join("")}`;
}

/** Tells one kick-off from another that has the same Idempotency-Key. The order of the fields does not matter. */
export const kickOffDigest = (spec: SpecParts): string =>
  createHash("sha256")
    .update(JSON.stringify(Object.entries(spec).toSorted(([a], [b]) => (a < b ? -1 : 1))))
    .digest("base64url");

/** A kick-off whose key was used before. */
export interface Repeat {
  client: string;
  digest: string;
  /** The answer of the first kick-off. */
  accepted: HttpAnswer;
}

/** Answers a kick-off whose name is taken: as the first time when it is the same kick-off, else by an error.
 *  @param before the object of that name; undefined: it has been removed meanwhile */
export function answerRepeat(before: FhirExport | undefined, { client, digest, accepted }: Repeat): HttpAnswer {
  if (!before)
    return unavailable(
      "the export of this Idempotency-Key is being removed; send the kick-off again later, or now with a new key",
    );
  if (before.spec.origin?.client !== client || before.metadata.annotations?.[annotations.request] !== digest)
    return errorAnswer(422, {
      code: "invalid",
      text: "the header Idempotency-Key was used before for a kick-off with other parameters; send a new key",
    });
  if (before.spec.cancel || before.metadata.deletionTimestamp)
    return errorAnswer(409, {
      code: "invalid",
      text: "the export of this Idempotency-Key has been deleted; send a new key to start another one",
    });
  return accepted;
}
