import { bundleOf, newestVersion, type Version, versionBefore } from "../../fhir/history.ts";
import { OwnMemory } from "../../scan/own.ts";
import type { PageTable } from "../../scan/table.ts";
import { eachFingerprint } from "../../sink/fingerprints.ts";
import { oneLine } from "../../sink/lines.ts";
import { wordsOf } from "../../sink/print-set.ts";
import { eachParallel } from "../parallel.ts";
import { Rows } from "../read/pages.ts";
import { countSearches } from "../read/searches.ts";
import { type RowVerdict, rowSelector } from "../read/verdict.ts";
import { exportEnd } from "../run.ts";
import { tailDoubts } from "./doubts.ts";
import type { LateWrites, Tail, Touched } from "./touched.ts";
import type { TypeClosing } from "./type-closing.ts";

/** Each may be 50 versions of a resource in memory. */
const versionsAtATime = 64;
/** Later than every lastUpdated. */
const never = "9999-12-31T23:59:59.999Z";

/** Writes what of a type existed at D, was touched since, and no shard has written:
 *  0. What was exported although it was deleted, or replaced by another version, shortly before D is reported.
 *  1. Of the touched resources, and those written shortly before D, drop all that some shard has exported. One that two
 *     shards have exported is told.
 *  2. Find the version of each of the others right before D. Without a history, take it as it is now.
 *  3. Write those that belong to the export. Tell how many could not be found, and what a missing history leaves open.
 *  @returns doubts */
export async function writeTail(closing: TypeClosing, tail: Tail, late: LateWrites): Promise<string[]> {
  const { type, whole, shards } = closing;
  // Nobody can ask any more whether the version before D matched a filter, so late rows are left to the searches.
  const { missing, twice } = await notExported(closing, tail, whole.filters ? new Map() : late.recentlyWritten);
  const lateGaps = await findLateGaps(closing, tail, late);
  const written = await writeVersions(closing, tail, missing);
  const seen = shards.reduce((sum, { result, extra }) => sum + result.seen + extra.size, 0);
  const expected = shards.reduce((sum, { shard }) => sum + (shard.members ? 0 : (shard.expected ?? 0)), 0);
  return tailDoubts(type, {
    older: lateGaps.older + shards.reduce((sum, { moved }) => sum + moved.size, 0),
    stillShown: lateGaps.deleted,
    twice,
    lost: written.lost,
    newer: written.newer,
    gone: tail.history ? 0 : Math.max(0, expected - (seen + written.asNow + written.lost)),
    goneUnknown: !tail.history && (await mayHaveGone(closing)),
    unread: tail.unread === true,
  });
}

/** Finds what was exported although the history of the last minute before D says otherwise: an index that lags shows
 *  resources that are deleted, and versions that are replaced.
 *  @returns numbers of resources. `older`: the shard that has exported it is of a window that the version as of D does
 *  not lie in */
async function findLateGaps(
  { work, shards }: TypeClosing,
  { touched }: Tail,
  { mayMove }: LateWrites,
): Promise<{ deleted: number; older: number }> {
  // What was touched since D is obtained from its history.
  const late = new Map([...mayMove].filter(([print]) => !touched.has(print)));
  // These are known to be older already.
  const isMoved = (print: string) => shards.some(({ moved }) => moved.has(print));
  const gaps = { deleted: 0, older: 0 };
  await eachParallel(late.size > 0 ? shards : [], async ({ shard, result, extra }) => {
    const from = shard.from === undefined ? Number.NEGATIVE_INFINITY : Date.parse(shard.from);
    const note = (print: string) => {
      const at = late.get(print);
      if (at === undefined) return;
      if (Number.isNaN(at)) gaps.deleted++;
      else if (shard.windows !== false && !isMoved(print) && !(at >= from && at < Date.parse(shard.till))) gaps.older++;
    };
    await eachFingerprint(work.store, result.fingerprints, note);
    extra.forEach(note);
  });
  return gaps;
}

/** Step 1. */
async function notExported(
  { work, shards }: TypeClosing,
  { touched }: Tail,
  late: LateWrites["recentlyWritten"],
): Promise<{ missing: ReadonlyMap<string, Touched>; twice: number }> {
  const missing = new Map([...late, ...touched]);
  const found = new Set<string>();
  const twice = new Set<string>();
  const note = (print: string) => {
    missing.delete(print);
    if (!late.has(print)) return;
    if (found.has(print)) twice.add(print);
    found.add(print);
  };
  await eachParallel(missing.size > 0 ? shards : [], async ({ result, extra }) => {
    await eachFingerprint(work.store, result.fingerprints, note);
    extra.forEach(note);
  });
  return { missing, twice: twice.size };
}

/** Numbers of resources. */
interface WrittenVersions {
  lost: number;
  /** Those that were read as they are now; `newer` are those of them that became lines. */
  asNow: number;
  newer: number;
}

/** Steps 2 and 3. */
async function writeVersions(
  closing: TypeClosing,
  tail: Tail,
  missing: ReadonlyMap<string, Touched>,
): Promise<WrittenVersions> {
  const { whole, writer } = closing;
  const versions = new VersionWriter(closing, tail);
  const counts: WrittenVersions = { lost: 0, asNow: 0, newer: 0 };
  const asNow = tail.history ? 0 : 1;
  writer.begin("tail");
  const all = [...missing];
  for (let start = 0; start < all.length; start += versionsAtATime) {
    const some = all.slice(start, start + versionsAtATime);
    const found = await eachParallel(some, ([, touched]) => versions.find(touched));
    for (const [index, [print]] of some.entries()) {
      const version = found[index];
      if (version === "none" || (version && !versions.isInTime(version))) continue;
      const row = version && (await versions.judge(version));
      // Nobody knows whether it matched the filters then. If it is not of the export anyway, that is no loss.
      // As it is now it is nobody's of the export. How it was, nobody knows.
      const isOthersNow = asNow > 0 && row?.verdict === "pass" && closing.work.task.export.level !== "System";
      if (!row || isOthersNow || (whole.filters && row.verdict === "line")) counts.lost++;
      if (!row || isOthersNow || whole.filters) continue;
      counts.asNow += asNow;
      if (row.verdict === "line") counts.newer += asNow;
      await versions.write(print, row);
    }
  }
  return counts;
}

interface JudgedVersion {
  table: PageTable;
  verdict: RowVerdict;
}

/** Finds the versions of touched resources, one resource after the other, and writes them. */
class VersionWriter {
  readonly #closing: TypeClosing;
  readonly #tail: Tail;
  readonly #end: string;
  readonly #select: ReturnType<typeof rowSelector>;
  readonly #memory = new OwnMemory();

  constructor(closing: TypeClosing, tail: Tail) {
    this.#closing = closing;
    this.#tail = tail;
    // Without a history all that is read is newer than D, and is exported all the same.
    this.#end = tail.history ? exportEnd(closing) : never;
    this.#select = rowSelector(closing, closing.whole, this.#end);
  }

  /** @returns "none" when the resource did not exist; undefined when that, or its version, cannot be obtained */
  async find({ id, isNew }: Touched): Promise<Version | "none" | undefined> {
    const { work, type } = this.#closing;
    if (isNew) return "none";
    return this.#tail.history
      ? versionBefore(work.source, type, id, this.#tail.since)
      : newestVersion(work.source, type, id);
  }

  /** Whether a version is of the time that the export is of. What is read as it is now is newer. */
  isInTime({ entry }: Version): boolean {
    const { from, till } = this.#closing.whole;
    const at = Date.parse(entry.lastUpdated ?? "");
    return !this.#tail.history || !((from !== undefined && at < Date.parse(from)) || at >= Date.parse(till));
  }

  /** What is answered is good until the next call. */
  async judge(version: Version): Promise<JudgedVersion> {
    const { plan, type } = this.#closing;
    const { members } = this.#select;
    const { table } = this.#memory.read(bundleOf(version), { type, till: this.#end, key: plan.key, members });
    const verdict = this.#select.any(table, 0);
    return { table, verdict: verdict === "unclear" ? await this.#select.ask!(table, 0) : verdict };
  }

  async write(print: string, { table, verdict }: JudgedVersion): Promise<void> {
    const { writer } = this.#closing;
    const { cut } = this.#select;
    if (typeof verdict === "object") return writer.error(verdict.outcome, verdict.errors);
    writer.show(wordsOf(print), 0);
    if (verdict === "line")
      await writer.lines(cut ? oneLine(cut(table.resource(0))) : new Rows(table, undefined), 0, 1);
    else if (verdict === "left") writer.leave();
    else writer.pass();
  }
}

/** Whether resources may have been deleted that no count misses: a shard is not counted; it was counted when something
 *  may have been deleted already; or it is searched by members, where a resource is counted by each search that finds
 *  it, and the sum has fallen. */
async function mayHaveGone(closing: TypeClosing): Promise<boolean> {
  const mayHave = await eachParallel(closing.shards, async ({ shard }) => {
    if (shard.expected === undefined || !shard.steady) return true;
    if (!shard.members) return false;
    const counts = await countSearches(closing, shard);
    return counts.reduce<number>((sum, count) => sum + (count ?? 0), 0) < shard.expected;
  });
  return mayHave.includes(true);
}
