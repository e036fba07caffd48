import type { FilePart, Plan, ShardResult } from "../../contracts.ts";
import { sha256Of } from "../../digest.ts";
import { transient } from "../../failure.ts";
import { digestsOf } from "../../sink/digest.ts";
import { contentType, manifestPath, planPath, resultPath, sumsPath, workPrefix } from "../../sink/layout.ts";
import { MadeObjects } from "../../sink/made.ts";
import { errorsKey, exactKey, type Manifest, manifestItem, renderManifest, renderSums } from "../../sink/manifest.ts";
import type { Store } from "../../sink/store.ts";
import { sumByType } from "../../totals.ts";
import { outcomeLine } from "../operation-outcome.ts";
import { eachParallel } from "../parallel.ts";
import { readCohort, readPlan } from "../stored.ts";
import type { CommandResult, Work } from "../work.ts";
import { closeType } from "./close.ts";
import { linesIn, writeDeleted } from "./deleted-files.ts";

const noticesPath = "errors/OperationOutcome-0000-1.ndjson";

/** Proves by storage (not by what a Job says) that every shard has its result, writes the manifest last and once, and removes the working files. */
export async function seal(work: Work): Promise<CommandResult> {
  const { task, store } = work;
  const plan = await readPlan(store, task.uid);
  if (!plan) throw transient("Internal", "there is no plan.json");
  const sealed = await store.read(manifestPath);
  const stands = sealed?.bytes ?? (await makeAll(work, plan));
  await removeWork(store);
  return report(JSON.parse(stands.toString()) as Manifest, sha256Of(stands));
}

/** @returns the manifest that stands then */
async function makeAll(work: Work, plan: Plan): Promise<Buffer> {
  const { task, store, log } = work;
  const results = await readResults(store, plan);
  const closed = await closeAll(work, plan, results);
  const made = new MadeObjects(store);
  const deleted = await writeDeleted(work, plan, made);
  const manifest = await makeManifest(plan, [...results, ...closed], deleted, task.export, store, made);
  await made.put(sumsPath, renderSums(manifest), "text/plain");
  const bytes = renderManifest(manifest);
  const stands = await made.put(manifestPath, bytes);
  if (stands === bytes) await made.confirm();
  else {
    log.info("another seal was first");
    const { deleted, error } = JSON.parse(stands.toString()) as Manifest;
    await made.confirm(new Set([...deleted, ...error].map(({ path }) => path).concat(sumsPath)));
  }
  return stands;
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

async function makeManifest(
  plan: Plan,
  results: ShardResult[],
  deleted: { files: FilePart[]; notices: string[] },
  request: Work["task"]["export"],
  store: Store,
  made: MadeObjects,
): Promise<Manifest> {
  const url = (path: string) => store.url(path);
  const withDigest = async (file: FilePart) => (file.sha256 ? file : { ...file, ...(await digestsOf(store, file)) });
  const output = await eachParallel(
    results.flatMap(({ type, files }) => files.map((file) => ({ type, file }))),
    async ({ type, file }) => manifestItem(type, await withDigest(file), url),
  );
  const doubts = results.flatMap((result) => result.doubts ?? []);
  const failed = results.reduce((sum, result) => sum + result.errors, 0);
  if (failed > 0)
    doubts.push(`${failed} answers of the source could not be exported; the error files of the shards say which.`);
  const errors = results.flatMap(({ errorFiles }) => errorFiles);
  const notices = await writeNotices(made, [
    ...(request.warnings ?? []),
    ...(plan.warnings ?? []),
    ...deleted.notices,
    ...doubts,
  ]);
  return {
    transactionTime: plan.transactionTime,
    request: request.request ?? "",
    // whoever may read the container reads it with its own credentials, not with a token of ours; the shim says what holds there
    requiresAccessToken: store.url("").startsWith("http"),
    outputFormat: "application/fhir+ndjson",
    output,
    deleted: deleted.files.map((file) => manifestItem("Bundle", file, url)),
    extension: {
      [exactKey]: doubts.length === 0,
      [errorsKey]: failed,
    },
    error: [...notices, ...errors].map((file) => manifestItem("OperationOutcome", file, url)),
  };
}

async function closeAll(work: Work, plan: Plan, results: ShardResult[]): Promise<ShardResult[]> {
  const types = [...new Set(plan.shards.map(({ type }) => type))];
  const byShard = new Map(results.map((result) => [result.shard, result]));
  const cohort = types.length > 0 ? await readCohort(work) : undefined;
  return eachParallel(types, (type) => closeType(work, plan, type, byShard, cohort));
}

/** What the user should know, as one file of OperationOutcomes. */
async function writeNotices(made: MadeObjects, texts: string[]): Promise<FilePart[]> {
  if (texts.length === 0) return [];
  const lines = texts.map((text) => `${outcomeLine("warning", "informational", text)}\n`);
  const bytes = await made.put(noticesPath, Buffer.from(lines.join("")), contentType);
  return [
    {
      name: noticesPath,
      lines: linesIn(bytes),
      bytes: bytes.length,
      sha256: sha256Of(bytes),
    },
  ];
}

/** The plan stays, for a look at what was done; a later purge reads it, too. */
async function removeWork(store: Store): Promise<void> {
  const paths: string[] = [];
  for await (const { path } of store.list(workPrefix, { uncommitted: true })) if (path !== planPath) paths.push(path);
  await eachParallel(paths, (path) => store.remove(path));
}

function report(manifest: Manifest, manifestSHA256: string): CommandResult {
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
  return {
    transactionTime: manifest.transactionTime,
    totals: { ...totals, errors },
    types,
    manifestSHA256,
    exact,
  };
}
