import { withoutTrailingSlash } from "../url.ts";
import type { Access } from "./auth/scopes.ts";
import type { ShimDeps } from "./deps.ts";
import { answerRepeat, exportName, kickOffDigest, readIdempotencyKey } from "./idempotency.ts";
import { countUnfinished, toFhirExport } from "./new-export.ts";
import { errorAnswer, type HttpAnswer, unavailable, withHeaders } from "./outcome.ts";
import { type KickOff, parseKickOff } from "./parse.ts";
import { checkAgainstCatalog, permitTypes } from "./permit.ts";
import { statusURL } from "./urls.ts";

/** A kick-off whose sender is known. */
interface KickOffCall {
  access: Access;
  /** The URL as the client called it. */
  url: string;
  kickOff: KickOff;
  /** The header of that name, as it was sent. */
  idempotencyKey: string | string[] | undefined;
}

/** Makes the FhirExport of a kick-off and answers without waiting for a pod. It costs the API server one write.
 *
 *  1. Read the request into parts of a spec.
 *  2. Narrow it to what the token, its client and the administrator allow.
 *  3. Check it against what is known of the source and the target.
 *  4. A repeated Idempotency-Key gets the answer of the first kick-off: the key decides the object's name, and the name
 *     is the lock.
 *  5. Refuse a client that has too many unfinished exports.
 *  6. Make the object.
 *
 *  @throws FailureError when the object is refused (terminal) or cannot be stored now (waiting, transient) */
export async function answerKickOff(call: KickOffCall, deps: ShimDeps): Promise<HttpAnswer> {
  const { access, kickOff } = call;
  const { config, exports, log } = deps;
  const base = withoutTrailingSlash(config.publicURL);
  const settings = deps.settings();
  const known = await deps.catalog.get();

  const parsed = parseKickOff(kickOff, deps.now(), {
    compat: settings.compat,
    requireAccept: settings.accept === "Required",
    requirePrefer: settings.prefer === "Required",
    validReferenceBases: [base, ...(known.source ? [known.source.spec.baseURL] : [])],
  });
  if (parsed.kind === "refused") return errorAnswer(parsed.status, ...parsed.issues);
  const { lenient, separateStatus } = parsed;

  const permitted = permitTypes(access, settings.allow, parsed.spec, known.types);
  if (permitted.kind === "refused") return errorAnswer(403, permitted.issue);

  const { spec, issues, warnings } = checkAgainstCatalog(known, permitted.spec, lenient);
  const idempotency = readIdempotencyKey(call.idempotencyKey);
  if (idempotency.kind === "malformed") issues.push(idempotency.issue);
  if (issues.length > 0) return errorAnswer(400, ...issues);

  const key = idempotency.kind === "key" ? idempotency.key : undefined;
  const name = exportName(access.client, key, deps.random);
  const accepted: HttpAnswer = {
    status: 202,
    headers: {
      "content-location": statusURL(base, name),
      ...(separateStatus && { "preference-applied": "respond-async, separate-export-status" }),
    },
  };
  const repeat = key === undefined ? undefined : { client: access.client, digest: kickOffDigest(spec), accepted };
  const before = repeat && (await exports.get(name));
  if (before) return answerRepeat(before, repeat);

  const { exportsPerClient } = settings.limits;
  if (exportsPerClient > 0 && countUnfinished(exports.list(), access.client) >= exportsPerClient)
    return tooManyUnfinished(exportsPerClient);

  const made = await exports.create(
    toFhirExport(
      {
        name,
        spec,
        client: access.client,
        request: call.url,
        warnings: [...parsed.warnings, ...warnings],
        separateStatus,
        digest: repeat?.digest,
      },
      config,
      settings.exports,
    ),
  );
  if (!made) {
    // another replica made it between our look and our write
    if (repeat) return answerRepeat(await exports.get(name), repeat);
    // 130 random bits are not taken twice unless the generator is broken
    return unavailable("no free name was found for the new export; send the kick-off again");
  }
  // not `level`, which is the member of every log line for its severity
  log.info({ audit: "kick-off", export: name, exportLevel: kickOff.level, client: access.client });
  return accepted;
}

const tooManyUnfinished = (limit: number): HttpAnswer =>
  withHeaders(
    errorAnswer(429, {
      code: "throttled",
      text: `this client has ${limit} unfinished exports, which is the most it may have; wait until one ends, or send DELETE to the status URL of one`,
    }),
    { "retry-after": "60" },
  );
