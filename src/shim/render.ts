import { find, isTrue } from "../api/conditions.ts";
import type { FhirExport } from "../api/fhirexport.gen.ts";
import type { FailureReason } from "../contracts.ts";
import type { Manifest, ManifestItem } from "../sink/manifest.ts";
import { type Answer, type Issue, refusal } from "./outcome.ts";

/** What the status URL answers as long as there is no manifest to show; "complete" when there is one. Pure. */
export function renderStatus(object: FhirExport | undefined, now: Date): Answer | "complete" {
  // cancel is the tombstone: after a DELETE every request is 404, whatever still has to be stopped and purged
  if (!object?.spec.origin || object.spec.cancel || object.metadata.deletionTimestamp || isTrue(object.status?.conditions, "Cancelled"))
    return unknownExport;
  const { conditions } = object.status ?? {};
  if (isTrue(conditions, "Complete")) return "complete";
  // only Stalled is final: a failed export whose retry has grown is on its way again
  if (isTrue(conditions, "Stalled")) return renderFailure(object);
  return {
    status: 202,
    headers: { "x-progress": progressText(object), "retry-after": String(retryAfter(object, now)) },
  };
}

export const unknownExport = refusal(404, {
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

function renderFailure({ status }: FhirExport): Answer {
  const accepted = find(status?.conditions, "Accepted");
  const cause =
    accepted?.status === "False" ? accepted : (find(status?.conditions, "Failed") ?? find(status?.conditions, "Stalled") ?? accepted);
  const text = `the export failed (${cause?.reason ?? "Failed"})${cause?.message ? `: ${cause.message}` : ""}`;
  const code = mendable[(cause?.reason ?? "Internal") as FailureReason];
  return code ? refusal(422, { code, text }) : refusal(500, { code: "processing", text });
}

/** Starts with the integer percent, which clients parse; below 100 characters (IG), plain ASCII. */
function progressText({ status }: FhirExport): string {
  const { percent = 0, resources = 0, expectedResources } = status?.progress ?? {};
  const word = (find(status?.conditions, "Ready")?.reason ?? "Waiting").toLowerCase();
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

/** The stored manifest as this service shows it: files are fetched here, not from storage. */
export function renderManifest(manifest: Manifest, self: string, object: FhirExport): Answer {
  const items = (list: ManifestItem[]) => list.map((item) => ({ ...item, url: `${self}/files/${item.path}` }));
  const { expirationTime } = object.status ?? {};
  return {
    status: 200,
    headers: { "content-type": "application/json", ...(expirationTime && { expires: new Date(expirationTime).toUTCString() }) },
    body: {
      ...manifest,
      requiresAccessToken: false,
      output: items(manifest.output),
      deleted: items(manifest.deleted),
      error: items(manifest.error),
    },
  };
}

/** Names that the files route serves. */
export const filesOf = (manifest: Manifest): Set<string> =>
  new Set([...manifest.output, ...manifest.deleted, ...manifest.error].map(({ path }) => path));
