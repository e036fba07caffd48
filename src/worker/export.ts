import { randomBytes } from "node:crypto";
import type { Cohort, Plan, Shard, ShardResult, TypeCount } from "../contracts.ts";
import { FailureError, terminal, transient } from "../failure.ts";
import { patientsOf } from "../fhir/compartment.ts";
import { countMatches, readPage } from "../fhir/reads.ts";
import { searchURL } from "../fhir/search.ts";
import type { Entry, Page } from "../scan/page.ts";
import { fingerprint } from "../sink/fingerprints.ts";
import { cohortPath, resultPath } from "../sink/layout.ts";
import { ShardWriter, type ShardWriterOptions } from "../sink/writer.ts";
import { outcomeLine } from "./outcome.ts";
import { readPlan } from "./plan.ts";
import { add, type Counts, zero } from "./progress.ts";
import type { Outcome, Work } from "./task.ts";

/** a volume has no block size of its own; a block is what is lost when a write tears */
const volumeBlockBytes = 4 * 1024 * 1024;

/** Runs the shards of one package over as many chains as the share of the source allows. Done when every shard has its result in storage. */
export async function exportPackage(work: Work): Promise<Outcome> {
  const { task, store, index } = work;
  const plan = await readPlan(store, task.uid);
  if (!plan) throw transient("Internal", "there is no plan.json yet");
  const wanted = new Set(plan.packages[index] ?? []);
  const shards = plan.shards.filter(({ id }) => wanted.has(id));
  const cohort = await readCohort(work);
  const stop = new AbortController();
  const signal = AbortSignal.any([work.signal, stop.signal]);
  const results: ShardResult[] = [];
  const queue = shards.values();
  const chain = async () => {
    for (const shard of queue) {
      signal.throwIfAborted();
      results.push(await exportShard({ ...work, signal }, plan, shard, cohort));
    }
  };
  const chains = Array.from({ length: Math.max(1, Math.min(task.source.share.requests, shards.length)) }, () =>
    chain().catch((error) => {
      stop.abort();
      throw error;
    }),
  );
  const ends = await Promise.allSettled(chains);
  const failed = ends.filter((end) => end.status === "rejected").map((end) => end.reason as unknown);
  // the others failed because the first one stopped them
  if (failed.length > 0) throw failed.find((error) => error instanceof FailureError) ?? failed[0];
  return summarize(results);
}

/** Totals and per-type counts of finished shards. */
function summarize(results: readonly ShardResult[]): Outcome {
  const types = new Map<string, TypeCount>();
  for (const result of results) {
    const before = types.get(result.type) ?? { type: result.type, ...zero };
    types.set(result.type, { ...before, ...add(before, countsOf(result)) });
  }
  return { totals: [...types.values()].reduce<Counts>((sum, type) => add(sum, type), zero), types: [...types.values()] };
}

const countsOf = ({ files, resources, errors }: ShardResult) => ({
  files: files.length,
  resources,
  bytes: files.reduce((sum, file) => sum + file.bytes, 0),
  errors,
});

export async function readCohort({ task, store }: Work): Promise<Cohort | undefined> {
  const { level, patients } = task.export;
  if (level === "System" || (level === "Patient" && !patients?.length)) return undefined;
  const found = await store.read(cohortPath);
  if (!found) throw transient("Internal", "there is no cohort beside plan.json");
  return JSON.parse(found.bytes.toString()) as Cohort;
}

/** How a shard of this export is written. */
export function writerOptions({ task, store }: Work, shard: Shard): ShardWriterOptions {
  return {
    store,
    uid: task.uid,
    shard,
    gzip: task.export.gzip,
    maxFileBytes: task.export.maxFileBytes,
    blockBytes: "azureBlob" in task.target ? task.target.azureBlob.blockBytes : volumeBlockBytes,
    nonce: () => randomBytes(4).toString("hex"),
    now: () => performance.now(),
  };
}

/** Reads one shard to its end, from where an earlier worker stopped. */
async function exportShard(work: Work, plan: Plan, shard: Shard, cohort: Cohort | undefined): Promise<ShardResult> {
  const { store, board } = work;
  const done = await store.read(resultPath(shard.id));
  if (done) {
    const result = JSON.parse(done.bytes.toString()) as ShardResult;
    board.set(shard.id, shard.type, countsOf(result));
    return result;
  }
  const writer = await ShardWriter.open(writerOptions(work, shard));
  // which filter a next link belongs to is not in it
  if ((shard.filters?.length ?? 0) > 1 && writer.position.page !== undefined) await writer.restart();
  const select = selector(work, plan, shard, cohort);
  await readShard(work, plan, shard, writer, select);
  // a page that lied may not do so again
  if (writer.errors > 0) {
    await writer.restart();
    await readShard(work, plan, shard, writer, select);
  }
  const missing = await countMissing(work, shard, writer.seen);
  if (missing > 0) {
    work.log.warn({ shard: shard.id, missing }, "the source counts more resources than it has shown; reading the shard again");
    writer.rewind();
    await readShard(work, plan, shard, writer, select);
  }
  const result = await writer.finish();
  board.set(shard.id, shard.type, countsOf(result));
  return result;
}

/** Follows the pages of the shard's searches and writes what is selected and not known yet. */
export async function readShard(
  work: Work,
  plan: Plan,
  shard: Shard,
  writer: ShardWriter,
  select: Select,
  known: (print: string) => boolean = (print) => writer.has(print),
): Promise<void> {
  const { source, board } = work;
  const first = (filter: string | undefined) =>
    searchURL({
      type: shard.type,
      filter,
      ...(plan.source.windows && { from: shard.from, till: shard.till }),
      count: plan.source.count,
      sort: plan.source.sort,
    });
  for (const filter of shard.filters ?? [undefined]) {
    let link: string | undefined = filter === (shard.filters ?? [])[0] ? (writer.position.page ?? first(filter)) : first(filter);
    const visited = new Set<string>();
    while (link !== undefined) {
      work.signal.throwIfAborted();
      if (visited.has(link)) throw terminal("SourceInconsistent", `the source's next link repeats in a search of ${shard.type}`);
      visited.add(link);
      const answer: Awaited<ReturnType<typeof readPage>> | { status: number } = await readPage(source, link, [400, 404, 410]);
      if ("status" in answer) {
        if (link === first(filter)) throw terminal("SourceInconsistent", `the source refuses a search of ${shard.type} (${answer.status})`);
        // a next link does not live for ever; the shard does
        work.log.warn(
          { shard: shard.id, status: answer.status },
          "the source does not know the next link any more; reading the shard again",
        );
        await writer.restart();
        return readShard(work, plan, shard, writer, select, known);
      }
      writer.begin(link);
      const { bytes, page }: { bytes: Buffer; page: Page } = answer;
      for (let at = writer.position.taken; at < page.entries.length; at++) {
        const entry = page.entries[at]!;
        const verdict = select(bytes, entry);
        if (verdict === "skip") writer.skip();
        else if (typeof verdict === "object") writer.error(verdict.outcome);
        else {
          const print = fingerprint(plan.key, entry.id);
          // filters overlap, and rows move under offset paging: what is known is not written twice
          if (known(print)) writer.skip();
          else if (verdict === "pass") writer.pass(print);
          else if (writer.line(bytes, entry, print)) await writer.drain();
        }
      }
      link = page.next === undefined ? undefined : source.resolve(page.next).href;
      await writer.pageDone(link);
      const { checkpointAt, ...counts } = writer.durable;
      board.set(shard.id, shard.type, counts, checkpointAt);
    }
  }
}

type Verdict = "line" | "pass" | "skip" | { outcome: string };
export type Select = (bytes: Buffer, entry: Entry) => Verdict;

/** Decides of one entry: a line, not for the output (`pass`: but of the window), no data at all (`skip`), or an error. */
export function selector({ task, source }: Work, plan: Plan, shard: Shard, cohort: Cohort | undefined): Select {
  const patients = cohort && new Set(cohort.patients);
  const groups = new Set(cohort?.groups);
  const { level, onResourceError } = task.export;
  const from = shard.from === undefined ? undefined : Date.parse(shard.from);
  const [tillText, till] = [shard.till, Date.parse(shard.till)];
  const wrong = (what: string): Verdict => {
    if (onResourceError === "Fail")
      throw terminal(
        "WrongResource",
        `the source answers a search of ${shard.type} with ${what}; it cannot be exported (onResourceError: Fail)`,
      );
    return {
      outcome: outcomeLine(
        "error",
        "invalid",
        `A search of ${shard.type} from ${shard.from ?? "the beginning"} till ${shard.till} was answered with ${what}, which is left out.`,
      ),
    };
  };
  return (bytes, entry) => {
    if (entry.mode === "outcome" || entry.mode === "include" || (entry.type === "OperationOutcome" && shard.type !== "OperationOutcome"))
      return "skip";
    if (entry.type !== shard.type)
      return wrong(/^[A-Z][A-Za-z]{1,63}$/.test(entry.type) ? `a resource of type ${entry.type}` : "something that is no resource");
    if (entry.id === "") return wrong("a resource without an id");
    // a page kept by the server lists what was in the window then, as it is now: its version as of transactionTime comes with the tail
    if (isAtLeast(entry.lastUpdated, tillText, till)) return "skip";
    // without lastUpdated it cannot be said to be older: it is exported
    if (!plan.source.windows && from !== undefined && Date.parse(entry.lastUpdated ?? "") < from) return "pass";
    if (level === "System") return "line";
    // other Groups of a member would tell who else is in them
    if (level === "Group" && entry.type === "Group" && !groups.has(entry.id)) return "pass";
    if (level === "Patient" && entry.type === "Patient" && !patients) return "line";
    const resource = JSON.parse(bytes.toString("utf8", entry.start, entry.end)) as Record<string, unknown>;
    for (const id of patientsOf(resource, source.base)) if (!patients || patients.has(id)) return "line";
    return "pass";
  };
}

/** Whether an instant as a server wrote it is not before `bound`. Most write it as we do: then no date needs to be parsed. */
function isAtLeast(text: string | undefined, boundText: string, bound: number): boolean {
  if (text === undefined) return false;
  if (text.length === boundText.length && text.endsWith("Z") && text[19] === ".") return text >= boundText;
  return Date.parse(text) >= bound;
}

/** How many resources the source counts in the shard's window beyond those it has shown. Fewer is no sign of a fault: what was updated since has
 *  left the window. */
async function countMissing({ source }: Work, shard: Shard, seen: number): Promise<number> {
  if (shard.expected === undefined || seen === shard.expected) return 0;
  const now = await countMatches(source, { type: shard.type, filter: shard.filters?.[0], from: shard.from, till: shard.till });
  return (now ?? 0) - seen;
}
