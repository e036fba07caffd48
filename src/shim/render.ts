import { STATUS_CODES } from "node:http";
import { findCondition, isTrue } from "../api/conditions.ts";
import type { FhirExport } from "../api/fhirexport.gen.ts";
import type { FailureReason } from "../contracts.ts";
import type { Manifest, ManifestItem } from "../sink/manifest.ts";
import { errorAnswer, type HttpAnswer, type Issue } from "./outcome.ts";

/** Whether the service shows an export at all. `cancel` is the tombstone: after a DELETE every request is 404, whatever still has to be stopped and
 *  purged; and so it is when it has expired, although its files stay for a while for downloads that are running. */
export function isServed(object: FhirExport | undefined, now: Date): object is FhirExport {
  if (!object?.spec.origin || object.spec.cancel || object.metadata.deletionTimestamp) return false;
  const { conditions, expirationTime } = object.status ?? {};
  return (
    !isTrue(conditions, "Cancelled") && !(expirationTime !== undefined && Date.parse(expirationTime) <= now.getTime())
  );
}

/** What the status URL answers as long as there is no manifest to show; "complete" when there is one. Pure. */
export function renderStatus(object: FhirExport | undefined, now: Date): HttpAnswer | "complete" {
  if (!isServed(object, now)) return unknownExport;
  const { conditions } = object.status ?? {};
  if (isTrue(conditions, "Complete")) return "complete";
  // only Stalled is final: a failed export whose retry has grown is on its way again
  if (isTrue(conditions, "Stalled")) return renderFailure(object);
  return {
    status: 202,
    headers: { "x-progress": progressText(object), "retry-after": String(retryAfter(object, now)) },
  };
}

export const unknownExport = errorAnswer(404, {
  code: "not-found",
  text: "there is no such export here: it was never started, has been deleted or has expired",
});

/** Reasons that the client can mend by asking for something else. Everything else is ours or the source's: 500. Never 404 or 429, which say
 *  something about the status URL, and never an outcome of the transient kind: a dead job does not come back (reference: section 6.13). */
const mendable: Partial<Record<FailureReason, Issue["code"]>> = {
  UnknownGroup: "not-found",
  UnknownType: "not-supported",
  UnsupportedParameter: "not-supported",
  InvalidFilter: "invalid",
  InvalidContainer: "invalid",
};

function renderFailure({ status }: FhirExport): HttpAnswer {
  const accepted = findCondition(status?.conditions, "Accepted");
  const cause =
    accepted?.status === "False"
      ? accepted
      : (findCondition(status?.conditions, "Failed") ?? findCondition(status?.conditions, "Stalled") ?? accepted);
  const text = `the export failed (${cause?.reason ?? "Failed"})${cause?.message ? `: ${cause.message}` : ""}`;
  const code = mendable[(cause?.reason ?? "Internal") as FailureReason];
  return code ? errorAnswer(422, { code, text }) : errorAnswer(500, { code: "processing", text });
}

/** Starts with the integer percent, which clients parse; below 100 characters (IG), plain ASCII. */
function progressText({ status }: FhirExport): string {
  const { percent = 0, resources = 0, expectedResources } = status?.progress ?? {};
  const word = (findCondition(status?.conditions, "Ready")?.reason ?? "Waiting").toLowerCase();
  const place = status?.queuePosition === undefined ? "" : ` at place ${status.queuePosition}`;
  const counts = expectedResources === undefined ? "" : `, ${resources} of ${expectedResources} resources`;
  return `${percent}% ${word}${place}${counts}`;
}

/** Seconds until a look is worth it: short for young exports, never beyond a minute, which clients take as "it hangs". */
function retryAfter({ metadata, status }: FhirExport, now: Date): number {
  const age = (now.getTime() - Date.parse(metadata.creationTimestamp ?? now.toISOString())) / 1000;
  const end = status?.progress?.estimatedCompletionTime;
  const left = end === undefined ? Number.POSITIVE_INFINITY : (Date.parse(end) - now.getTime()) / 1000;
  return Math.max(1, Math.min(60, Math.ceil(age / 10), Math.ceil(left)));
}

/** Prefer: separate-export-status (Bulk Data IG 3): the HTTP status tells how the poll went, X-Export-Status how the export is. A 404 tells of the poll. */
export function separately(answer: HttpAnswer): HttpAnswer {
  const { status, headers } = answer;
  if (status === 404) return answer;
  return { ...answer, status: 200, headers: { ...headers, "x-export-status": `${status} ${STATUS_CODES[status]}` } };
}

/** The stored manifest as this service shows it: files are fetched here, not from storage.
 *  @param self undefined: bare storage URLs, as Azure API for FHIR gave them
 *  @param withToken the files are given for an access token only */
export function renderServedManifest(
  manifest: Manifest,
  self: string | undefined,
  object: FhirExport,
  withToken = false,
): HttpAnswer {
  const items = (list: ManifestItem[]) =>
    list.map((item) => (self === undefined ? item : { ...item, url: `${self}/files/${item.path}` }));
  const { expirationTime } = object.status ?? {};
  return {
    status: 200,
    headers: {
      "content-type": "application/json",
      ...(expirationTime && { expires: new Date(expirationTime).toUTCString() }),
    },
    body: {
      ...manifest,
      requiresAccessToken: withToken,
      output: items(manifest.output),
      deleted: items(manifest.deleted),
      error: items(manifest.error),
    },
  };
}

/** The item of a file that the manifest lists: what else lies in the folder (or above it) is not reachable. */
export const itemOf = ({ output, deleted, error }: Manifest, path: string): ManifestItem | undefined =>
  [output, deleted, error].flatMap((items) => items.find((item) => item.path === path) ?? [])[0];
