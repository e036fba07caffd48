import { gunzipSync, gzipSync } from "node:zlib";
import type { FilePart } from "../../contracts.ts";
import { sha256Of } from "../../digest.ts";
import { contentType, deletedPath, deletedPrefix } from "../../sink/layout.ts";
import type { MadeObjects } from "../../sink/made.ts";
import { eachParallel } from "../parallel.ts";
import { type ExportRun, exportEnd } from "../run.ts";
import { listedAt, readDeleted, renderDeleted } from "./deletions.ts";

/** The files of the manifest's `deleted`, and what the user should know of them. */
export interface DeletedFiles {
  files: FilePart[];
  notices: string[];
}

/** Writes what was deleted since `since`, one file per type (Bulk Data IG: `deleted` of an export with `_since`).
 *  Without `since` there is nothing to write. */
export async function writeDeleted(run: ExportRun, made: MadeObjects): Promise<DeletedFiles> {
  const { work, plan, cohort } = run;
  const { export: request } = work.task;
  const till = exportEnd(run);
  if (request.since === undefined || Date.parse(request.since) >= Date.parse(till)) return { files: [], notices: [] };
  const since = new Date(request.since).toISOString();
  const types = plan.types ?? [];
  const files: FilePart[] = [];
  const notices: string[] = [];
  const all = await eachParallel(types, (type) =>
    readDeleted(run, type, { since, till }, listedAt(request, cohort, type, run.compartment)),
  );
  // A seal that was killed may have seen more deletions: its files count, and are named even where this one has none.
  const left = new Set<string>();
  for await (const { path } of work.store.list(deletedPrefix)) left.add(path);
  for (const [index, type] of types.entries()) {
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

/** How many line ends some bytes have. */
export const linesIn = (bytes: Buffer): number => bytes.toString("latin1").split("\n").length - 1;
