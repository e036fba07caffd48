import { randomUUID } from "node:crypto";
import type { Cohort } from "../../contracts.ts";
import { compartmentParameters, patientsBy } from "../../fhir/compartment.ts";
import { type Capabilities, countMatches, readPage } from "../../fhir/reads.ts";
import { ignoredParameters, type Search, searchURL } from "../../fhir/search.ts";
import { eachParallel } from "../parallel.ts";
import { batchesOf } from "../read/searches.ts";
import type { Work } from "../work.ts";

/** ids in one search, the most that works: 200 UUIDs are 9 kB, which goes as POST _search; 30 fit into most URLs */
const sizes = [200, 30, 5];
/** from so many patients on, to read all of a type and to keep what is of the cohort costs the source less than as many searches by its members */
const enoughPatients = 1 / 4;
/** characters of a search besides ids, filter and elements: type, parameter, window, order, count */
const besidesIds = 200;
/** members of a shard where the source does not count */
const membersPerShard = 1000;
/** resources from each end that a parameter is tried with */
const probeCount = 100;
type Resource = Record<string, unknown> & { id: string };
const refusals = [400, 404, 405, 413, 414, 422, 431, 501];

/** How many ids of the cohort one search takes; undefined where a type is better read as a whole, or its searches do not hold.
 *  @throws FailureError of the source */
export async function probeBatches({ source, task }: Work, { patients }: Cohort): Promise<number | undefined> {
  if (patients.length === 0) return sizes[0];
  const all = await countMatches(source, { type: "Patient" });
  if (all !== undefined && patients.length >= all * enoughPatients) return undefined;
  const longest = patients.reduce((most, { length }) => Math.max(most, length), 0);
  const { typeFilters = [], elements = [] } = task.export;
  const others =
    Math.max(0, ...typeFilters.map((filter) => encodeURIComponent(filter).length)) +
    elements.join().length +
    besidesIds;
  for (const size of sizes) {
    const ids = patients.slice(0, size);
    if (await holds(ids, ids.length * ("Patient/,".length + longest) + others)) return size;
  }
  return undefined;

  /** a source may look at the first of many values only: together they must find what the halves find */
  async function holds(ids: string[], length: number): Promise<boolean> {
    const found = async (part: string[]) => {
      const values = part.slice();
      // as long as any search will be
      for (let at = 0, sum = part.join().length; sum < length; at++) {
        values.push(part[at % part.length]!);
        sum += values.at(-1)!.length + 1;
      }
      const search = { type: "Patient", by: { parameter: "_id", values } };
      const counted = await readPage(source, searchURL({ ...search, summary: true }), refusals);
      if (!("page" in counted)) return Number.NaN;
      if (counted.page.total !== undefined) return counted.page.total;
      const answer = await readPage(source, searchURL({ ...search, count: ids.length }), refusals);
      return "page" in answer ? answer.page.entries.length : Number.NaN;
    };
    const half = Math.ceil(ids.length / 2);
    const [together, ...halves] = [
      await found(ids),
      await found(ids.slice(0, half)),
      ids.length > 1 ? await found(ids.slice(half)) : 0,
    ];
    return together === halves.reduce((sum, count) => sum + count, 0);
  }
}

/** Whether searches by the compartment's parameters find what is in it: each is known to the source, finds nothing for a patient that does not exist, and of the
 *  type's oldest and newest resources all that refer to a patient. (HAPI does not find, for good, what was written before the patient it refers to.)
 *  @param size ids that one search takes
 *  @param sort whether the source keeps an order */
export async function canBatch(
  { source, task }: Work,
  type: string,
  { parameters }: Capabilities,
  size: number,
  sort: boolean,
): Promise<boolean> {
  // the Groups of an export are searched by their own ids
  if (type === "Group" && task.export.level === "Group") return true;
  const listed = parameters.get(type);
  const wanted = compartmentParameters(type);
  if (listed && listed.size > 0 && wanted.some((parameter) => !listed.has(parameter))) return false;
  const page = async (more: Partial<Search>) => {
    const answer = await readPage(source, searchURL({ type, count: probeCount, ...more }), refusals);
    if (!("page" in answer)) return undefined;
    const { bytes, page } = answer;
    const entries = page.entries.filter(({ mode }) => mode !== "outcome");
    return {
      ...page,
      entries,
      resources: entries.map(({ start, end }) => JSON.parse(bytes.toString("utf8", start, end)) as Resource),
    };
  };
  const ends: Resource[][] = [];
  for (const order of sort ? (["up", "down"] as const) : [undefined])
    ends.push((await page({ order }))?.resources ?? []);
  const shown = Array.from({ length: probeCount }, (_, at) => ends.flatMap((end) => end[at] ?? [])).flat();
  if (shown.length === 0) return true;
  // the search names them twice, by patient and by id, and is answered by one page
  const most = Math.min(Math.max(1, size / 2), ...ends.map(({ length }) => length || probeCount));
  for (const parameter of wanted) {
    const nobody = await page({ by: { parameter, values: [`Patient/${randomUUID()}`] }, count: 1 });
    if (!nobody || nobody.entries.length > 0 || ignoredParameters(`${parameter}=`, nobody.self).length > 0)
      return false;
    const examples = new Map<string, string>();
    for (const resource of shown) {
      const [patient] = resource.resourceType === type ? patientsBy(resource, parameter, source.base) : [];
      if (patient !== undefined && examples.size < most) examples.set(resource.id, `Patient/${patient}`);
    }
    if (examples.size === 0) continue;
    const by = { parameter, values: [...new Set(examples.values())] };
    const found = await page({ by, filter: `_id=${[...examples.keys()].join(",")}`, count: examples.size });
    if (new Set(found?.entries.map(({ id }) => id)).size < examples.size) return false;
  }
  return true;
}

/** Members of one shard; `expected` is what their searches count together, where the source counts. */
export interface MemberRange {
  members: [from: number, to: number];
  expected?: number;
}

/** Cuts the cohort into the members of a type's shards, each with as many as have about `max` resources. Batches that have nothing are left out at the ends: what
 *  was theirs at transactionTime is in the type's tail.
 *  @param count of a search, its window and filters included; undefined where the source does not count */
export async function cutMembers(
  type: string,
  cohort: Cohort,
  size: number,
  max: number,
  count: (by: NonNullable<Search["by"]>) => Promise<number | undefined>,
): Promise<MemberRange[]> {
  const total = cohort.patients.length;
  // the Groups of the export are searched by their own ids, all at once
  const step = type === "Group" && cohort.groups.length > 0 ? total : size;
  const parts = Array.from({ length: Math.ceil(total / step) }, (_, at): [number, number] => [
    at * step,
    Math.min(total, (at + 1) * step),
  ]);
  const counts = await eachParallel(parts, async (part) => {
    let sum = 0;
    for (const by of batchesOf(type, part, size, cohort)) sum += (await count(by)) ?? Number.NaN;
    return sum;
  });
  const isCounted = !counts.some(Number.isNaN);
  const ranges: (MemberRange & { held: number })[] = [];
  for (const [index, members] of parts.entries()) {
    const held = isCounted ? counts[index]! : ((members[1] - members[0]) * max) / membersPerShard;
    const last = ranges.at(-1);
    if (held === 0) continue;
    if (!last || last.held + held > max) ranges.push({ members, held });
    else {
      last.members = [last.members[0], members[1]];
      last.held += held;
    }
  }
  return ranges.map(({ members, held }) => ({ members, ...(isCounted && { expected: held }) }));
}
