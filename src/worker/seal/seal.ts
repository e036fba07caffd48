import type { FilePart, Plan, ShardResult } from "../../contracts.ts";
import { sha256Of } from "../../digest.ts";
import { transient } from "../../failure.ts";
import { contentType, manifestPath, planPath, resultPath, sumsPath, workPrefix } from "../../sink/layout.ts";
import { MadeObjects } from "../../sink/made.ts";
import { errorsKey, exactKey, type Manifest, manifestItem, renderManifest, renderSums } from "../../sink/manifest.ts";
import type { Store } from "../../sink/store.ts";
import { sumByType } from "../../totals.ts";
import { outcomeLine } from "../operation-outcome.ts";
import { eachParallel } from "../parallel.ts";
import { type ExportRun, openRun } from "../run.ts";
import { abandonUnfinished, readPlan } from "../stored.ts";
import type { CommandResult, Work } from "../work.ts";
import { closeType } from "./close.ts";
import { type DeletedFiles, linesIn, writeDeleted } from "./deleted-files.ts";

const noticesPath = "errors/OperationOutcome-0000-1.ndjson";

/** The command `seal`. It trusts storage, and not what a Job says:
 *  1. Every shard must have its result.
 *  2. Close each type (close.ts), and write what was deleted.
 *  3. Write SHA256SUMS, then the manifest, last and once.
 *  4. Remove the working files.
 *  Where there is a manifest already, only 4 is left. Two seals may be at work: what is written first counts.
 *  @throws transient Internal while the plan or a result is missing; terminal Fenced when the export was cancelled */
export async function seal(work: Work): Promise<CommandResult> {
  const { task, store } = work;
  const plan = await readPlan(store, task.uid);
  if (!plan) throw transient("Internal", "there is no plan.json");
  const sealed = await store.read(manifestPath);
  const manifest = sealed?.bytes ?? (await makeAll(work, plan));
  await removeWork(store);
  return reportOf(JSON.parse(manifest.toString()) as Manifest, sha256Of(manifest));
}

/** @returns the bytes of the manifest that is in storage then, which may be another seal's */
async function makeAll(work: Work, plan: Plan): Promise<Buffer> {
  const { store, log } = work;
  const results = await readResults(store, plan);
  const run = await openRun(work, plan);
  const closed = await closeAll(run, results);
  const made = new MadeObjects(store);
  const deleted = await writeDeleted(run, made);
  const manifest = await makeManifest(run, [...results, ...closed], deleted, made);
  await made.put(sumsPath, renderSums(manifest), "text/plain");
  const ours = renderManifest(manifest);
  const stored = await made.put(manifestPath, ours);
  if (stored === ours) await made.confirm();
  else {
    log.info("another seal was first");
    const { deleted, error } = JSON.parse(stored.toString()) as Manifest;
    await made.confirm(new Set([...deleted, ...error].map(({ path }) => path).concat(sumsPath)));
  }
  return stored;
}

async function readResults(store: Store, plan: Plan): Promise<ShardResult[]> {
  const results = await eachParallel(plan.shards, async ({ id }) => {
    const found = await store.read(resultPath(id));
    return found ? (JSON.parse(found.bytes.toString()) as ShardResult) : undefined;
  });
  const missing = plan.shards.filter((_, index) => results[index] === undefined);
  if (missing.length > 0)
    throw transient(
      "Internal",
      `${missing.length} of ${plan.shards.length} shards have no result yet, the first is ${missing[0]!.id}`,
    );
  return results as ShardResult[];
}

async function closeAll(run: ExportRun, results: readonly ShardResult[]): Promise<ShardResult[]> {
  const types = [...new Set(run.plan.shards.map(({ type }) => type))];
  const byShard = new Map(results.map((result) => [result.shard, result]));
  return eachParallel(types, (type) => closeType(run, type, byShard));
}

async function makeManifest(
  { work, plan }: ExportRun,
  results: readonly ShardResult[],
  deleted: DeletedFiles,
  made: MadeObjects,
): Promise<Manifest> {
  const { store, task } = work;
  const { request = "", warnings = [] } = task.export;
  const url = (path: string) => store.url(path);
  const doubts = results.flatMap((result) => result.doubts ?? []);
  const failed = results.reduce((sum, result) => sum + result.errors, 0);
  if (failed > 0)
    doubts.push(`${failed} answers of the source could not be exported; the error files of the shards say which.`);
  const errors = results.flatMap(({ errorFiles }) => errorFiles);
  const notices = await writeNotices(made, [...warnings, ...(plan.warnings ?? []), ...deleted.notices, ...doubts]);
  return {
    transactionTime: plan.transactionTime,
    request,
    // Whoever may read the container reads it with credentials of their own, not with a token of ours. The HTTP service
    // says what holds where it serves the files.
    requiresAccessToken: store.url(manifestPath).startsWith("http"),
    outputFormat: "application/fhir+ndjson",
    output: results.flatMap(({ type, files }) => files.map((file) => manifestItem(type, file, url))),
    deleted: deleted.files.map((file) => manifestItem("Bundle", file, url)),
    extension: {
      [exactKey]: doubts.length === 0,
      [errorsKey]: failed,
    },
    error: [...notices, ...errors].map((file) => manifestItem("OperationOutcome", file, url)),
  };
}

/** Writes what the user should know, as one file of OperationOutcomes. */
async function writeNotices(made: MadeObjects, texts: string[]): Promise<FilePart[]> {
  if (texts.length === 0) return [];
  const lines = texts.map((text) => `${outcomeLine("warning", "informational", text)}\n`);
  const bytes = await made.put(noticesPath, Buffer.from(lines.join("")), contentType);
  return [{ name: noticesPath, lines: linesIn(bytes), bytes: bytes.length, sha256: sha256Of(bytes) }];
}

/** Removes the working files. The plan stays: it shows what was done, and a later purge reads it. */
async function removeWork(store: Store): Promise<void> {
  const paths: string[] = [];
  for await (const { path } of store.list(workPrefix)) if (path !== planPath) paths.push(path);
  await eachParallel(paths, (path) => store.remove(path));
  await abandonUnfinished(store, "");
}

function reportOf(manifest: Manifest, manifestSHA256: string): CommandResult {
  const { totals, types } = sumByType(
    manifest.output.map(({ type, count, fileSize }) => ({
      type,
      files: 1,
      resources: count,
      bytes: fileSize,
      errors: 0,
    })),
  );
  const { [exactKey]: exact, [errorsKey]: errors } = manifest.extension;
  return { transactionTime: manifest.transactionTime, totals: { ...totals, errors }, types, manifestSHA256, exact };
}
