import { gunzipSync, gzipSync } from "node:zlib";
import type { FilePart, Plan } from "../../contracts.ts";
import { sha256Of } from "../../digest.ts";
import { contentType, deletedPath, deletedPrefix } from "../../sink/layout.ts";
import type { MadeObjects } from "../../sink/made.ts";
import { eachParallel } from "../parallel.ts";
import { endOf } from "../read/verdict.ts";
import { readCohort } from "../stored.ts";
import type { Work } from "../work.ts";
import { listedAt, readDeleted, renderDeleted } from "./deletions.ts";

/** Writes what was deleted since `since`, one file per type (Bulk Data IG: `deleted` of an export with `_since`); nothing without it.
 *  @returns with what the user should know of it */
export async function writeDeleted(
  work: Work,
  plan: Plan,
  made: MadeObjects,
): Promise<{ files: FilePart[]; notices: string[] }> {
  const { export: request } = work.task;
  const till = endOf(plan, work.task);
  if (request.since === undefined || Date.parse(request.since) >= Date.parse(till)) return { files: [], notices: [] };
  const since = new Date(request.since).toISOString();
  const cohort = await readCohort(work);
  const files: FilePart[] = [];
  const notices: string[] = [];
  const all = await eachParallel(plan.types ?? [], (type) =>
    readDeleted(work, plan, type, { since, till }, listedAt(request, cohort, type, work.source.base)),
  );
  // of a seal that was killed, and has perhaps seen more
  const left = new Set<string>();
  for await (const { path } of work.store.list(deletedPrefix)) left.add(path);
  for (const [index, type] of (plan.types ?? []).entries()) {
    const deletions = all[index]!;
    const name = deletedPath(type, request.gzip);
    notices.push(...deletions.notices);
    if (deletions.ids.length === 0 && !left.has(name)) continue;
    const content = Buffer.from(
      renderDeleted(type, deletions.ids)
        .map((line) => `${line}\n`)
        .join(""),
    );
    files.push(
      partOf(name, await made.put(name, request.gzip ? gzipSync(content) : content, contentType), request.gzip),
    );
  }
  return { files, notices };
}

function partOf(name: string, stored: Buffer, gzip: boolean): FilePart {
  const content = gzip ? gunzipSync(stored) : stored;
  return {
    name,
    lines: linesIn(content),
    bytes: stored.length,
    sha256: sha256Of(stored),
    ...(gzip && { contentBytes: content.length, contentSha256: sha256Of(content) }),
  };
}

export const linesIn = (bytes: Buffer): number => bytes.toString("latin1").split("\n").length - 1;
