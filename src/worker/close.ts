import type { Cohort, Plan, Shard, ShardResult } from "../contracts.ts";
import { OwnMemory } from "../scan/own.ts";
import { countKnown, readFingerprints, wordsOf } from "../sink/fingerprints.ts";
import { resultPath, shardId } from "../sink/layout.ts";
import { oneLine } from "../sink/lines.ts";
import { ShardWriter } from "../sink/writer.ts";
import { writerOptions } from "./export.ts";
import { lookAtTail, newestVersion, type Tail, type Version, versionBefore } from "./history.ts";
import { readShard } from "./pages.ts";
import { Rows } from "./reader.ts";
import { countShard } from "./searches.ts";
import { endOf, selector } from "./select.ts";
import type { Work } from "./task.ts";

/** Under constant writes each look finds something newer; what is still open after so many is told instead. */
const rounds = 5;
const bundleStart = Buffer.from('{"resourceType":"Bundle","entry":[{"resource":');
const bundleEnd = Buffer.from("}]}");

interface Window {
  shard: Shard;
  result: ShardResult;
  /** found missing by this closing */
  extra: Set<string>;
}

/** Closes the windows of a type and reads its tail (DESIGN section 7): what came out is every resource as of transactionTime, also where the
 *  source was written to meanwhile. What was missing goes into a shard of its own, `{Type}-0000`; what cannot be had is told in its doubts. */
export async function closeType(
  work: Work,
  plan: Plan,
  type: string,
  results: ReadonlyMap<string, ShardResult>,
  cohort: Cohort | undefined,
): Promise<ShardResult> {
  const shards = plan.shards.filter((shard) => shard.type === type);
  const [first, last] = [shards[0]!, shards.at(-1)!];
  const { from: _, till: __, expected: ___, ...rest } = first;
  const whole: Shard = { ...rest, id: shardId(type, 0), till: last.till, ...(first.from !== undefined && { from: first.from }) };
  const done = await work.store.read(resultPath(whole.id));
  if (done) return JSON.parse(done.bytes.toString()) as ShardResult;
  const writer = await ShardWriter.open(writerOptions(work, whole));
  try {
    // it is small, and what was touched is another set by now
    await writer.restart();
    const windows = shards.map((shard): Window => ({ shard, result: results.get(shard.id)!, extra: new Set() }));
    const { open, tail } = await closeWindows(work, plan, windows, writer, cohort);
    const doubts = [
      ...open.map(
        ({ shard: { id } }) =>
          `The source counts more resources of ${type} in the window of shard ${id} than it shows; some may be missing.`,
      ),
      ...(await writeTail(work, plan, whole, windows, tail, writer, cohort)),
    ];
    return await writer.finish(doubts);
  } finally {
    writer.close();
  }
}

/** Reads windows again until the source counts no more in any than is known of it and was not touched since. @returns those that stay open */
async function closeWindows(
  work: Work,
  plan: Plan,
  windows: Window[],
  writer: ShardWriter,
  cohort: Cohort | undefined,
): Promise<{ open: Window[]; tail: Tail }> {
  for (let round = 1; ; round++) {
    const counts: (number | undefined)[] = [];
    for (const { shard } of windows) counts.push(await countShard(work.source, shard));
    // looked at after the counts: what it does not show was in its window when that was counted. So a count that is not above what is known and not
    // touched proves that nothing is missing.
    const tail = await lookAtTail(work, plan, windows[0]!.shard.type);
    const touched = new Set(tail.touched.keys());
    const open: Window[] = [];
    for (const [index, window] of windows.entries()) {
      const gone = touched.size === 0 ? 0 : await countKnown(work.store, window.result.fingerprints, touched, window.extra);
      if ((counts[index] ?? 0) > window.result.seen + window.extra.size - gone) open.push(window);
    }
    if (open.length === 0 || round === rounds) return { open, tail };
    work.log.info({ type: windows[0]!.shard.type, windows: open.length, round }, "the source has moved rows; reading windows again");
    for (const { shard, result, extra } of open) {
      const known = await readFingerprints(work.store, result.fingerprints);
      writer.rewind();
      await readShard(work, plan, shard, writer, selector(work, plan, shard, cohort), (print) => {
        if (known.has(print) || writer.has(print)) return true;
        extra.add(print);
        return false;
      });
    }
  }
}

/** Writes what existed at transactionTime, was touched since and is not there yet. @returns doubts */
async function writeTail(
  work: Work,
  plan: Plan,
  whole: Shard,
  windows: Window[],
  tail: Tail,
  writer: ShardWriter,
  cohort: Cohort | undefined,
): Promise<string[]> {
  const { type, filters, from, till } = whole;
  const missing = new Map(tail.touched);
  for (const { result, extra } of missing.size > 0 ? windows : []) {
    for (const print of await readFingerprints(work.store, result.fingerprints)) missing.delete(print);
    for (const print of extra) missing.delete(print);
  }
  let [untold, newer] = [0, 0];
  // without history what is there is newer than transactionTime, and known to be
  const end = tail.history ? endOf(plan, work.task) : "9999-12-31T23:59:59.999Z";
  const select = selector(work, plan, whole, cohort, end);
  const own = new OwnMemory();
  const put = async ({ bytes, entry }: Version, print: string) => {
    const page = Buffer.concat([bundleStart, bytes.subarray(entry.start, entry.end), bundleEnd]);
    const { table } = own.read(page, { type, till: end, key: plan.key, members: select.members });
    const verdict = select.any(table, 0);
    if (typeof verdict === "object") return writer.error(verdict.outcome);
    writer.show(wordsOf(print), 0);
    if (verdict === "line") await writer.lines(select.cut ? oneLine(select.cut(table.resource(0))) : new Rows(table, undefined), 0, 1);
    else writer.pass();
  };
  writer.begin("tail");
  for (const [print, { id, deleted, versionId }] of missing) {
    const version = tail.history
      ? await versionBefore(work.source, type, id, tail.since, deleted)
      : versionId === "1"
        ? "none"
        : await newestVersion(work.source, type, id);
    if (version === "none") continue;
    const at = version === undefined ? Number.NaN : Date.parse(version.entry.lastUpdated ?? "");
    if (tail.history && ((from !== undefined && at < Date.parse(from)) || at >= Date.parse(till))) continue;
    // whether it matched a filter then cannot be asked any more
    if (version === undefined || filters) untold++;
    else {
      if (!tail.history) newer++;
      await put(version, print);
    }
  }
  const doubts: string[] = [];
  if (untold > 0)
    doubts.push(`${untold} resources of ${type} were written to while the export ran, and how they were at transactionTime cannot be had.`);
  if (newer > 0)
    doubts.push(`${newer} resources of ${type} are newer than transactionTime: the source has no history to read the version before from.`);
  // deletions are seen only by history; without it, by what is missing of the plan's counts. "At least": what is newer may have been made since.
  const expected = windows.reduce((sum, { shard }) => sum + (shard.expected ?? 0), 0);
  const known = windows.reduce((sum, { result, extra }) => sum + result.seen + extra.size, 0) + newer + untold;
  if (!tail.history && known < expected)
    doubts.push(`At least ${expected - known} resources of ${type} went while the export ran, before they were read.`);
  return doubts;
}
