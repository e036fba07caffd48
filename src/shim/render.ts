/** What the service shows of an export: its status and its manifest. Pure. */
import { STATUS_CODES } from "node:http";
import { causeIn, findCondition, isTrue } from "../api/conditions.ts";
import type { FhirExport } from "../api/fhirexport.gen.ts";
import type { FailureReason } from "../contracts.ts";
import type { Manifest, ManifestItem } from "../sink/manifest.ts";
import { errorAnswer, type HttpAnswer, type Issue } from "./outcome.ts";

/** Whether the service shows an export at all. After a DELETE every request is 404 at once, although workers still
 *  have to be stopped and files to be deleted: `spec.cancel` marks that. An expired export is 404, too, although its
 *  files stay for a while, for downloads that are running. */
export function isServed(object: FhirExport | undefined, now: Date): object is FhirExport {
  if (!object?.spec.origin || object.spec.cancel || object.metadata.deletionTimestamp) return false;
  const { conditions, expirationTime } = object.status ?? {};
  return (
    !isTrue(conditions, "Cancelled") && !(expirationTime !== undefined && Date.parse(expirationTime) <= now.getTime())
  );
}

/** What the status URL answers while there is no manifest to show; "complete" when there is one. */
export function renderStatus(object: FhirExport | undefined, now: Date): HttpAnswer | "complete" {
  if (!isServed(object, now)) return unknownExport;
  const { conditions } = object.status ?? {};
  if (isTrue(conditions, "Complete")) return "complete";
  // Stalled and not Failed: an export that failed before runs again once its `spec.retry` was raised, and Stalled is
  // then gone
  if (isTrue(conditions, "Stalled")) return renderFailure(object);
  return {
    status: 202,
    headers: { "x-progress": progressText(object), "retry-after": String(retryAfter(object, now)) },
  };
}

export const unknownExport = errorAnswer(404, {
  code: "not-found",
  text: "there is no export at this URL: it was never started, has been deleted or has expired; start a new one at $export",
});

/** Reasons for which the client can mend its request, with the code of their issue: they are answered by 422. All
 *  other failures are the service's or the FHIR server's: 500. An export that failed is never 404 or 429, which say
 *  something about the status URL, and its issue is never `transient`, because polling again does not bring it back. */
const mendableReasons: Partial<Record<FailureReason, Issue["code"]>> = {
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
  const code = mendableReasons[(cause?.reason ?? "Internal") as FailureReason];
  return code ? errorAnswer(422, { code, text }) : errorAnswer(500, { code: "processing", text });
}

/** the most characters of X-Progress */
const maxProgress = 99;

/** The header X-Progress. It begins with the integer percent, which clients parse, has less than 100 characters, as
 *  the IG demands, and is plain ASCII. It ends with why the export does not get on, as far as there is room. */
function progressText({ status }: FhirExport): string {
  const { percent = 0, resources = 0, expectedResources } = status?.progress ?? {};
  const word = (findCondition(status?.conditions, "Ready")?.reason ?? "Waiting").toLowerCase();
  const place = status?.queuePosition === undefined ? "" : ` at place ${status.queuePosition}`;
  const counts = expectedResources === undefined ? "" : `, ${resources} of ${expectedResources} resources`;
  const cause = causeIn(status?.conditions);
  const text = `${percent}% ${word}${place}${counts}${cause ? `: ${cause}` : ""}`.replace(/[^ -~]+/g, "?");
  return text.length <= maxProgress ? text : `${text.slice(0, maxProgress - 3)}...`;
}

/** Seconds until the next poll: a tenth of the export's age, and no more than is estimated to be left. At most a
 *  minute, because clients take a longer time for an export that hangs. */
function retryAfter({ metadata, status }: FhirExport, now: Date): number {
  const age = (now.getTime() - Date.parse(metadata.creationTimestamp ?? now.toISOString())) / 1000;
  const end = status?.progress?.estimatedCompletionTime;
  const left = end === undefined ? Number.POSITIVE_INFINITY : (Date.parse(end) - now.getTime()) / 1000;
  return Math.max(1, Math.min(60, Math.ceil(age / 10), Math.ceil(left)));
}

/** The answer under Prefer: separate-export-status (Bulk Data IG 3): the HTTP status tells how the poll went,
 *  X-Export-Status the state of the export. A 404 is about the poll and stays as it is. */
export function separately(answer: HttpAnswer): HttpAnswer {
  const { status, headers } = answer;
  if (status === 404) return answer;
  return { ...answer, status: 200, headers: { ...headers, "x-export-status": `${status} ${STATUS_CODES[status]}` } };
}

/** The stored manifest with the URLs of this service, because clients fetch files here and not from storage.
 *  @param self the status URL; undefined: the manifest keeps its bare storage URLs, as Azure API for FHIR gave them
 *  @param withToken whether files need an access token */
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

/** The manifest's item of a file. Other files in the export's folder, or above it, cannot be reached. */
export const itemOf = ({ output, deleted, error }: Manifest, path: string): ManifestItem | undefined =>
  [output, deleted, error].flatMap((items) => items.find((item) => item.path === path) ?? [])[0];
