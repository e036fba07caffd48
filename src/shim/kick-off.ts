import { createHash } from "node:crypto";
import type { FastifyRequest } from "fastify";
import type { FhirExport, FhirExportSpec } from "../api/fhirexport.gen.ts";
import { annotations } from "../api/names.ts";
import { checkContainer } from "../api/parameters.ts";
import { compartmentTypes } from "../fhir/compartment.ts";
import { withoutTrailingSlash } from "../url.ts";
import type { ShimDeps } from "./app.ts";
import { type Access, anonymous } from "./auth/authority.ts";
import { mayExport } from "./auth/scopes.ts";
import type { Known } from "./catalog.ts";
import { errorAnswer, type HttpAnswer, type Issue, unavailable } from "./outcome.ts";
import { type KickOff, parseKickOff, type SpecParts } from "./parse.ts";
import type { ShimSettings } from "./settings.ts";

/** spec.origin.request holds no more, and a client that sends more has lost its way */
const maxRequestURL = 16_384;

/** Answers a kick-off, whoever asks being known: one object is made, and nobody waits for it. */
export async function handleKickOff(
  access: Access,
  level: KickOff["level"],
  { method, originalUrl, headers, params, body }: FastifyRequest,
  deps: ShimDeps,
  self: (name: string) => string,
): Promise<HttpAnswer> {
  const { config, exports, log } = deps;
  const base = withoutTrailingSlash(config.publicURL);
  const called = calledURL(originalUrl, base);
  if (called.length > maxRequestURL)
    return errorAnswer(414, { code: "too-long", text: "the URL is too long; send the parameters by POST" });
  const settings = deps.settings();
  const known = await deps.catalog.get();
  const parsed = parseKickOff(
    {
      level,
      method: method as "GET" | "POST",
      groupId: (params as { id?: string }).id,
      accept: headers.accept,
      prefer: headers.prefer === undefined ? undefined : String(headers.prefer),
      query: queryOf(originalUrl),
      ...(headers["content-type"] !== undefined && { contentType: headers["content-type"] }),
      ...(Buffer.isBuffer(body) && { body }),
    },
    deps.now(),
    {
      compat: settings.compat,
      requireAccept: settings.accept === "Required",
      requirePrefer: settings.prefer === "Required",
      validReferenceBases: [base, ...(known.source ? [known.source.spec.baseURL] : [])],
    },
  );
  if ("issues" in parsed) return errorAnswer(parsed.status, ...parsed.issues);
  const { warnings, separateStatus } = parsed;
  const permitted = permit(access, settings.allow, parsed.spec, known.types);
  if ("code" in permitted) return errorAnswer(403, permitted);
  const { spec, issues } = checkKnown(known, permitted.spec, parsed.lenient ? warnings : undefined);
  const idempotency = idempotencyKey(headers["idempotency-key"]);
  if ("issue" in idempotency) issues.push(idempotency.issue);
  if (issues.length > 0) return errorAnswer(400, ...issues);

  const key = "key" in idempotency ? idempotency.key : undefined;
  const name = exportName(access.client, key, deps.random);
  const digest = key === undefined ? undefined : kickOffDigest(spec);
  const preferred = separateStatus ? { "preference-applied": "respond-async, separate-export-status" } : {};
  const accepted: HttpAnswer = { status: 202, headers: { "content-location": self(name), ...preferred } };
  const before = digest === undefined ? undefined : await exports.get(name);
  if (before) return repeated(before, access.client, digest!, accepted);

  const { exportsPerClient } = settings.limits;
  if (exportsPerClient > 0 && unfinished(exports.list(), access.client) >= exportsPerClient) {
    const answer = errorAnswer(429, {
      code: "throttled",
      text: `${exportsPerClient} exports of this client are not finished yet; wait for one, or delete one`,
    });
    return { ...answer, headers: { ...answer.headers, "retry-after": "60" } };
  }
  const made = await exports.create(
    toObject(name, spec, {
      source: config.source,
      target: config.target,
      exports: settings.exports,
      access,
      request: called,
      warnings,
      separateStatus,
      ...(digest !== undefined && { digest }),
    }),
  );
  if (!made)
    // without a key the name is random, and a second round is for a broken generator only
    return digest === undefined
      ? unavailable("the name of the new export is taken; try again")
      : repeated(await exports.get(name), access.client, digest, accepted);
  // not level: that is the line's own
  log.info({ audit: "kick-off", export: name, exportLevel: level, client: access.client });
  return accepted;
}

/** What may be exported: by the token and its client, and at all. */
function permit(
  access: Access,
  allow: ShimSettings["allow"],
  spec: SpecParts,
  known: Known["types"],
): { spec: SpecParts } | Issue {
  let { types } = spec;
  for (const one of [access, { ...anonymous, ...allow }] satisfies Access[]) {
    const answer = mayExport(one, { level: spec.level ?? "System", groupId: spec.groupId, types });
    if ("code" in answer) return answer;
    if (types === undefined && answer.types) types = narrowed(answer.types, spec.level, known);
  }
  if (types?.length === 0)
    return { code: "forbidden", text: "none of the types that this client may export is there at this level" };
  return { spec: types === undefined ? spec : { ...spec, types } };
}

const queryOf = (url: string) => (url.includes("?") ? url.slice(url.indexOf("?") + 1) : "");

/** The URL as the client called it: never the host that a proxy talks to (reference: section 6.10). */
function calledURL(url: string, base: string): string {
  const { origin, pathname } = new URL(base);
  const prefix = withoutTrailingSlash(pathname);
  return prefix && (url === prefix || url.startsWith(`${prefix}/`)) ? origin + url : base + url;
}

/** The name of a new export: 130 bits that nobody guesses; of a repeated kick-off the same as before, so that the name is the lock.
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
const base32 = "abcdefghijklmnopqrstuvwxyz234567";

/** draft-ietf-httpapi-idempotency-key-header: a string, mostly a UUID; clients quote it or not */
export function idempotencyKey(header: string | string[] | undefined): { key?: string } | { issue: Issue } {
  if (header === undefined) return {};
  const key = /^"?([\x21\x23-\x7e]{1,255})"?$/.exec(String(header))?.[1];
  return key === undefined
    ? {
        issue: {
          code: "invalid",
          text: "the header Idempotency-Key must be 1 to 255 visible characters, for example a UUID",
        },
      }
    : { key };
}

/** What tells one kick-off from another with the same Idempotency-Key. */
export const kickOffDigest = (spec: SpecParts): string =>
  createHash("sha256")
    .update(JSON.stringify(Object.entries(spec).toSorted(([a], [b]) => (a < b ? -1 : 1))))
    .digest("base64url");

/** What a kick-off with a name that is taken is told: the same as before, when it is the same. */
export function repeated(
  before: FhirExport | undefined,
  client: string,
  digest: string,
  accepted: HttpAnswer,
): HttpAnswer {
  if (!before) return unavailable("the export of this Idempotency-Key is being removed; try again");
  if (before.spec.origin?.client !== client || before.metadata.annotations?.[annotations.request] !== digest)
    return errorAnswer(422, {
      code: "invalid",
      text: "the Idempotency-Key was used for another kick-off; use a new one",
    });
  if (before.spec.cancel || before.metadata.deletionTimestamp)
    return errorAnswer(409, {
      code: "invalid",
      text: "the export of this Idempotency-Key has been deleted; use a new key",
    });
  return accepted;
}

/** What the source and the target allow, as far as that is known.
 *  @param warnings of a lenient client: types that cannot be exported are dropped, as long as one is left */
export function checkKnown(
  { source, target, types }: Known,
  spec: SpecParts,
  warnings?: string[],
): { spec: SpecParts; issues: Issue[] } {
  const issues: Issue[] = [];
  if (!source) return { spec, issues };
  const faults = new Map<string, string>();
  for (const type of spec.types ?? [])
    if (types && !types.has(type)) faults.set(type, `the FHIR server cannot search ${type}`);
    else if (spec.level !== "System" && !compartmentTypes.has(type))
      faults.set(type, `${type} is not in the Patient compartment; export it at system level`);
  const left = (spec.types ?? []).filter((type) => !faults.has(type));
  const texts = [...faults.values()].map((fault) => `_type: ${fault}`);
  const isDropped = warnings !== undefined && left.length > 0;
  if (isDropped) warnings.push(...texts.slice(0, 16).map((text) => `${text}; it was ignored`));
  else issues.push(...texts.slice(0, 16).map((text): Issue => ({ code: "not-supported", text })));
  const container = spec.container !== undefined && target ? checkContainer(spec.container, target.spec) : undefined;
  if (container) issues.push({ code: "invalid", text: `_container: ${container}` });
  if (!isDropped || faults.size === 0) return { spec, issues };
  const { typeFilters, ...rest } = spec;
  const kept = typeFilters?.filter((filter) => left.includes(filter.slice(0, filter.indexOf("?"))));
  return { spec: { ...rest, types: left, ...(kept?.length && { typeFilters: kept }) }, issues };
}

/** The types to export where not all are allowed: those that the FHIR server has, and that the level may hold. */
export function narrowed(
  allowed: readonly string[],
  level: SpecParts["level"],
  types: ReadonlySet<string> | undefined,
): string[] {
  return allowed.filter((type) => (types?.has(type) ?? true) && (level === "System" || compartmentTypes.has(type)));
}

/** Exports of a client that are not finished. */
export function unfinished(all: Iterable<FhirExport>, client: string): number {
  let count = 0;
  for (const { spec, metadata, status } of all) {
    if (spec.origin?.client !== client || spec.cancel || metadata.deletionTimestamp) continue;
    if (
      !status?.conditions?.some((one) => (one.type === "Complete" || one.type === "Stalled") && one.status === "True")
    )
      count++;
  }
  return count;
}

/** The object that a kick-off makes: from a request only what its parameters are mapped to, everything else from the administrator. */
export function toObject(
  name: string,
  parts: SpecParts,
  rest: {
    source: string;
    target: string;
    exports: Partial<FhirExportSpec>;
    access: Access;
    request: string;
    warnings: string[];
    separateStatus: boolean;
    digest?: string;
  },
): Pick<FhirExport, "spec"> & { metadata: { name: string; annotations?: Record<string, string> } } {
  const { warnings, separateStatus, digest } = rest;
  const notes = {
    ...(separateStatus && { [annotations.separateStatus]: "true" }),
    ...(digest !== undefined && { [annotations.request]: digest }),
  };
  return {
    metadata: { name, ...(Object.keys(notes).length > 0 && { annotations: notes }) },
    spec: {
      sourceRef: { name: rest.source },
      targetRef: { name: rest.target },
      ...rest.exports,
      ...parts,
      origin: { client: rest.access.client, request: rest.request, ...(warnings.length > 0 && { warnings }) },
    },
  };
}
