import type { FilePart, Plan, Shard, ShardResult, TypeCount } from "../../contracts.ts";
import { sha256Of } from "../../digest.ts";
import { FailureError, transient } from "../../failure.ts";
import {
  contentType,
  errorPath,
  isCheckpoint,
  isOutput,
  manifestPath,
  planPath,
  sumsPath,
  workPrefix,
} from "../../sink/layout.ts";
import { MadeObjects } from "../../sink/made.ts";
import {
  errorsKey,
  exactKey,
  type Manifest,
  manifestItem,
  proofsKey,
  renderManifest,
  renderSums,
} from "../../sink/manifest.ts";
import type { Store } from "../../sink/store.ts";
import { sumByType, zeroTotals } from "../../totals.ts";
import { exportShards } from "../export.ts";
import { ExportedResources } from "../exported.ts";
import { outcomeLine } from "../operation-outcome.ts";
import { eachParallel } from "../parallel.ts";
import { isReadLast } from "../read/provenance.ts";
import { type ExportRun, openRun } from "../run.ts";
import { abandonUnfinished, readPlan, readResult } from "../stored.ts";
import type { CommandResult, Work } from "../work.ts";
import { closeType } from "./close.ts";
import { type DeletedFiles, linesIn, writeDeleted } from "./deleted-files.ts";
import { leftDoubts } from "./doubts.ts";
import { evidenceOf, type Judgement, judgeExport } from "./judge.ts";

const noticesPath = "errors/OperationOutcome-0000-1.ndjson";

/** The command `seal`. It trusts storage, and not what a Job says:
 *  1. Every shard of a package must have its result.
 *  2. Close each type (close.ts); read and close Provenance; write what was deleted, and what could not be exported.
 *  3. Write SHA256SUMS, then the manifest, last and once.
 *  4. Remove all output that the manifest does not name, and the working files.
 *  Where there is a manifest already, only 4 is left. Two seals may be at work: what is written first counts.
 *  @throws transient Internal while the plan or a result is missing; terminal Fenced when the export was cancelled */
export async function seal(work: Work): Promise<CommandResult> {
  const { task, store } = work;
  const plan = await readPlan(store, task.uid);
  if (!plan) throw transient("Internal", "there is no plan.json");
  const sealed = await store.read(manifestPath);
  const bytes = sealed?.bytes ?? (await makeAll(work, plan));
  const manifest = JSON.parse(bytes.toString()) as Manifest;
  await correctSums(store, manifest);
  await removeUnnamed(store, manifest);
  return reportOf(manifest, sha256Of(bytes));
}

/** @returns the bytes of the manifest that is in storage then, which may be another seal's */
async function makeAll(work: Work, plan: Plan): Promise<Buffer> {
  const { store, log } = work;
  const run = await openRun(work, plan);
  const results = await exportAndClose(run);
  const made = new MadeObjects(store);
  const deleted = await writeDeleted(run, made);
  const failed = results.reduce((sum, { errors }) => sum + errors, 0);
  const doubts = [...(plan.doubts ?? []), ...leftDoubts(results)];
  const judgement = judgeExport(evidenceOf(results, plan.empty ?? []), failed, doubts);
  const manifest = await makeManifest(run, { results, deleted, failed, judgement }, made);
  await made.put(sumsPath, renderSums(manifest), "text/plain");
  const ours = renderManifest(manifest);
  const stored = await made.put(manifestPath, ours);
  await made.confirm();
  if (stored !== ours) log.info("another seal was first");
  return stored;
}

/** Closes all types. Provenance, which depends on what the others have written, is read behind them. */
async function exportAndClose(run: ExportRun): Promise<ShardResult[]> {
  const { work, plan } = run;
  const [last, first] = [true, false].map((wanted) =>
    plan.shards.filter(({ type }) => isReadLast(work.task.export, type) === wanted),
  ) as [Shard[], Shard[]];
  const results = await readResults(work, first);
  results.push(...(await closeAll(run, results)));
  if (last.length === 0) return results;
  const lastRun = { ...run, exported: await ExportedResources.read(work.store, results, plan.key) };
  await exportShards(lastRun, last);
  const read = await readResults(work, last);
  return [...results, ...read, ...(await closeAll(lastRun, read))];
}

async function readResults({ store, task }: Work, shards: readonly Shard[]): Promise<ShardResult[]> {
  const results = await eachParallel(shards, ({ id }) => readResult(store, task.uid, id));
  const missing = shards.filter((_, index) => results[index] === undefined);
  if (missing.length > 0)
    throw transient(
      "Internal",
      `${missing.length} of ${shards.length} shards have no result yet, the first is ${missing[0]!.id}`,
    );
  return results as ShardResult[];
}

async function closeAll(run: ExportRun, results: readonly ShardResult[]): Promise<ShardResult[]> {
  const refused = new Set(run.plan.shards.filter((shard) => shard.refused !== undefined).map(({ type }) => type));
  const types = [...new Set(results.map(({ type }) => type))].filter((type) => !refused.has(type));
  const byShard = new Map(results.map((result) => [result.shard, result]));
  const failed: unknown[] = [];
  const closed = await eachParallel(types, async (type) => {
    if (failed.length > 0) return [];
    return closeType(run, type, byShard).then(
      (result) => [result],
      (error: unknown) => {
        failed.push(error);
        return [];
      },
    );
  });
  // Only when all of them have ended: a writer that is cut off leaves what it would have removed.
  if (failed.length > 0) throw failed.find((error) => error instanceof FailureError) ?? failed[0];
  return closed.flat();
}

/** What a manifest tells. */
interface Sealed {
  results: readonly ShardResult[];
  deleted: DeletedFiles;
  /** how many answers of the source could not be exported */
  failed: number;
  judgement: Judgement;
}

async function makeManifest({ work, plan }: ExportRun, sealed: Sealed, made: MadeObjects): Promise<Manifest> {
  const { results, deleted, failed, judgement } = sealed;
  const { store, task } = work;
  const { request = "", warnings = [] } = task.export;
  const url = (path: string) => store.url(path);
  const errors = await writeErrors(made, results);
  const notices = await writeNotices(made, [
    ...warnings,
    ...(plan.warnings ?? []),
    ...deleted.notices,
    ...judgement.doubts,
  ]);
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
      [exactKey]: judgement.exact,
      [errorsKey]: failed,
      [proofsKey]: judgement.proofs,
    },
    error: [...notices, ...errors].map((file) => manifestItem("OperationOutcome", file, url)),
  };
}

/** Writes what the shards could not export, a file for each shard. */
async function writeErrors(made: MadeObjects, results: readonly ShardResult[]): Promise<FilePart[]> {
  const failed = results.filter(({ errorLines }) => errorLines.length > 0);
  return eachParallel(failed, ({ shard, errorLines }) => writeLines(made, errorPath(shard), errorLines));
}

/** Writes what the user should know, as one file of OperationOutcomes. */
async function writeNotices(made: MadeObjects, texts: string[]): Promise<FilePart[]> {
  if (texts.length === 0) return [];
  return [
    await writeLines(
      made,
      noticesPath,
      texts.map((text) => outcomeLine("warning", "informational", text)),
    ),
  ];
}

async function writeLines(made: MadeObjects, name: string, lines: readonly string[]): Promise<FilePart> {
  const bytes = await made.put(name, Buffer.from(lines.map((line) => `${line}\n`).join("")), contentType);
  return { name, lines: linesIn(bytes), bytes: bytes.length, sha256: sha256Of(bytes) };
}

/** SHA256SUMS is written before the manifest. Of two seals the one may have written the sums, and the other the
 *  manifest: then the manifest counts. */
async function correctSums(store: Store, manifest: Manifest): Promise<void> {
  const right = renderSums(manifest);
  for (let tries = 0; tries < 5; tries++) {
    const found = await store.read(sumsPath);
    if (found?.bytes.equals(right)) return;
    if (found) await store.remove(sumsPath);
    await store.create(sumsPath, right, "text/plain");
  }
  throw transient("Internal", `${sumsPath} is written by another worker at the same time`);
}

/** Removes what is not of the finished export: output that the manifest does not name, since writers that begin a shard
 *  again, or stood still, leave it; the working files; and all that is not finished. The plan stays: it shows what was
 *  done, and a later purge reads it. The checkpoints go last, as they hold off writers that stand still. */
async function removeUnnamed(store: Store, { output, deleted, error }: Manifest): Promise<void> {
  const named = new Set([...output, ...deleted, ...error].map(({ path }) => path));
  const unnamed: string[] = [];
  for await (const { path } of store.list(""))
    if (path.startsWith(workPrefix) ? path !== planPath : isOutput(path) && !named.has(path)) unnamed.push(path);
  const [checkpoints, others] = [unnamed.filter(isCheckpoint), unnamed.filter((path) => !isCheckpoint(path))];
  await eachParallel(others, (path) => store.remove(path));
  await abandonUnfinished(store, "");
  await eachParallel(checkpoints, (path) => store.remove(path));
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
  const { [exactKey]: exact, [errorsKey]: errors, [proofsKey]: proofs = {} } = manifest.extension;
  // A type without lines is worth a word only where it may lack some.
  const unwritten = Object.keys(proofs).filter(
    (type) => proofs[type] === "none" && !types.some((one) => one.type === type),
  );
  return {
    transactionTime: manifest.transactionTime,
    totals: { ...totals, errors },
    types: [...types, ...unwritten.map((type): TypeCount => ({ type, ...zeroTotals }))].map((count) => {
      const proof = proofs[count.type];
      return proof === undefined ? count : { ...count, proof };
    }),
    manifestSHA256,
    exact,
  };
}
