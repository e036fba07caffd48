import type { Cohort, Plan, Shard } from "../../contracts.ts";
import { bundleOf, newestVersion, type Version, versionBefore } from "../../fhir/history.ts";
import { OwnMemory } from "../../scan/own.ts";
import { eachFingerprint, wordsOf } from "../../sink/fingerprints.ts";
import { oneLine } from "../../sink/lines.ts";
import type { ShardWriter } from "../../sink/writer.ts";
import { eachParallel } from "../parallel.ts";
import { Rows } from "../read/pages.ts";
import { countShard } from "../read/searches.ts";
import { endOf, selector } from "../read/verdict.ts";
import type { Work } from "../work.ts";
import type { Window } from "./close.ts";
import type { Late, Tail, Touched } from "./touched.ts";

const settle = "Raise settleSeconds of the FhirSource above the time that its index lags.";
/** each may be 50 versions of a resource in memory */
const versionsAtATime = 64;

/** Writes what of a type existed at transactionTime, was touched since and is not there yet (DESIGN section 7).
 *  @param whole all of the type
 *  @param there what was written shortly before it, and is there (Late)
 *  @returns doubts, each a sentence for an OperationOutcome */
export async function writeTail(
  work: Work,
  plan: Plan,
  whole: Shard,
  windows: readonly Window[],
  tail: Tail,
  there: Late["there"],
  writer: ShardWriter,
  cohort: Cohort | undefined,
): Promise<string[]> {
  const { type, filters, from, till } = whole;
  // whether it matched a filter then cannot be asked any more
  const late = filters ? new Map<string, Touched>() : there;
  const missing = new Map([...late, ...tail.touched]);
  const shown = new Set<string>();
  const twice = new Set<string>();
  const find = (print: string) => {
    missing.delete(print);
    if (!late.has(print)) return;
    if (shown.has(print)) twice.add(print);
    shown.add(print);
  };
  await eachParallel(missing.size > 0 ? windows : [], async ({ result, extra }) => {
    await eachFingerprint(work.store, result.fingerprints, find);
    extra.forEach(find);
  });
  let [untold, newer, now] = [0, 0, 0];
  // without history what is there is newer than transactionTime, and known to be
  const end = tail.history ? endOf(plan, work.task) : "9999-12-31T23:59:59.999Z";
  const select = selector(work, plan, whole, cohort, end);
  const own = new OwnMemory();
  const read = (version: Version) => {
    const { table } = own.read(bundleOf(version), { type, till: end, key: plan.key, members: select.members });
    return { table, verdict: select.any(table, 0) };
  };
  const put = async ({ table, verdict }: ReturnType<typeof read>, print: string) => {
    if (typeof verdict === "object") return writer.error(verdict.outcome);
    writer.show(wordsOf(print), 0);
    if (verdict === "line")
      await writer.lines(select.cut ? oneLine(select.cut(table.resource(0))) : new Rows(table, undefined), 0, 1);
    else writer.pass();
  };
  const versionOf = ({ id, isNew }: Touched): Promise<Version | "none" | undefined> | "none" =>
    isNew
      ? "none"
      : tail.history
        ? versionBefore(work.source, type, id, tail.since)
        : newestVersion(work.source, type, id);
  writer.begin("tail");
  const all = [...missing];
  for (let start = 0; start < all.length; start += versionsAtATime) {
    const some = all.slice(start, start + versionsAtATime);
    const versions = await eachParallel(some, async ([, touched]) => versionOf(touched));
    for (const [index, [print]] of some.entries()) {
      const version = versions[index];
      if (version === "none") continue;
      const at = version === undefined ? Number.NaN : Date.parse(version.entry.lastUpdated ?? "");
      if (tail.history && ((from !== undefined && at < Date.parse(from)) || at >= Date.parse(till))) continue;
      const found = version && read(version);
      if (!found || (filters && found.verdict === "line")) untold++;
      else if (!filters) {
        if (!tail.history) now++;
        if (!tail.history && found.verdict === "line") newer++;
        await put(found, print);
      }
    }
  }
  const doubts: string[] = [];
  const moved = windows.reduce((sum, window) => sum + window.moved.size, 0);
  if (moved > 0)
    doubts.push(
      `${moved} resources of ${type} are older than transactionTime: searches showed their last update only while the export ran. ${settle}`,
    );
  if (twice.size > 0)
    doubts.push(
      `${twice.size} resources of ${type} come twice, before and after an update that searches showed only while the export ran. ${settle}`,
    );
  if (untold > 0)
    doubts.push(
      `${untold} resources of ${type} were written to while the export ran, and how they were at transactionTime cannot be had.`,
    );
  if (newer > 0)
    doubts.push(
      `${newer} resources of ${type} are newer than transactionTime: the source has no history to read the version before from.`,
    );
  // deletions are seen only by history; without it, by what is missing of the plan's counts. "At least": what is newer may have been made since.
  const expected = windows.reduce((sum, { shard }) => sum + (shard.members ? 0 : (shard.expected ?? 0)), 0);
  const known = windows.reduce((sum, { result, extra }) => sum + result.seen + extra.size, 0) + now + untold;
  if (!tail.history && known < expected)
    doubts.push(`At least ${expected - known} resources of ${type} went while the export ran, before they were read.`);
  if (!tail.history && (await mayHaveGone(work, plan, windows, cohort)))
    doubts.push(
      `Whether resources of ${type} went while the export ran, before they were read, cannot be known: the source shows no history of the type and no exact counts of it.`,
    );
  return doubts;
}

/** Whether something may have been deleted that no count would miss: what several searches find is counted as often. */
async function mayHaveGone(
  { source }: Work,
  plan: Plan,
  windows: readonly Window[],
  cohort: Cohort | undefined,
): Promise<boolean> {
  const isOpen = await eachParallel(windows, async ({ shard }) => {
    if (shard.expected === undefined) return true;
    return shard.members !== undefined && ((await countShard(source, plan, shard, cohort)) ?? 0) < shard.expected;
  });
  return isOpen.includes(true);
}
