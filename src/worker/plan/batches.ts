import type { Cohort } from "../../cohort.ts";
import type { SourceClient } from "../../fhir/client.ts";
import { type Capabilities, countMatches, probePage } from "../../fhir/reads.ts";
import { ignoredParameters, type Search, searchURL } from "../../fhir/search.ts";
import type { Entry } from "../../scan/page.ts";
import { eachParallel } from "../parallel.ts";
import { PatientQuestions } from "../patient-questions.ts";
import { batchesOf, type MemberBatches } from "../read/searches.ts";
import { decideUnclear, type UnclearRow } from "../read/unclear.ts";
import type { Work } from "../work.ts";
import type { Planning } from "./draft.ts";

/** How many ids one search is tried with; the largest that works is used. 200 UUIDs are 9 kB, which are sent as POST
 *  _search; 30 fit into most URLs. */
const batchSizes = [200, 30, 5];
/** With this part of all patients in the cohort, reading all of a type and keeping what is the cohort's costs the
 *  source less than all the searches by members. */
const readAllFrom = 1 / 4;
/** characters of a search besides its ids, filter and elements: type, parameter, window, order, count */
const otherCharacters = 200;
/** members of a shard where the source does not count */
const membersPerShard = 1000;
/** how many of a type's oldest resources, and how many of its newest, show whether its searches by members hold */
const sampleSize = 100;

/** How many ids of the cohort one search takes. Undefined where reading whole types is better, or where a search by
 *  several ids does not find all of them.
 *  @throws FailureError of the source */
export async function probeBatchSize({ source, task }: Work, { patients }: Cohort): Promise<number | undefined> {
  if (patients.length === 0) return batchSizes[0];
  const all = await countMatches(source, { type: "Patient" });
  if (all !== undefined && patients.length >= all * readAllFrom) return undefined;
  const longestId = patients.reduce((most, { length }) => Math.max(most, length), 0);
  const { typeFilters = [], elements = [] } = task.export;
  const others =
    Math.max(0, ...typeFilters.map((filter) => encodeURIComponent(filter).length)) +
    elements.join().length +
    otherCharacters;
  for (const size of batchSizes) {
    const ids = patients.slice(0, size);
    if (await findsAll(source, ids, ids.length * ("Patient/,".length + longestId) + others)) return size;
  }
  return undefined;
}

/** Whether a search by all of the ids finds as many Patients as the searches by either half of them: a source may look
 *  only at the first of many values.
 *  @param length how many characters the ids are to have, so that the search is as long as any that follows */
async function findsAll(source: SourceClient, ids: readonly string[], length: number): Promise<boolean> {
  const found = async (part: readonly string[]) => {
    const values = part.slice();
    for (let at = 0, sum = part.join().length; sum < length; at++) {
      values.push(part[at % part.length]!);
      sum += values.at(-1)!.length + 1;
    }
    const search = { type: "Patient", by: { parameter: "_id", values } };
    const counted = await probePage(source, searchURL({ ...search, summary: true }), { isPage: false });
    if (!("page" in counted)) return Number.NaN;
    if (counted.page.total !== undefined) return counted.page.total;
    const answer = await probePage(source, searchURL({ ...search, count: ids.length }));
    return "page" in answer ? answer.page.entries.length : Number.NaN;
  };
  const half = Math.ceil(ids.length / 2);
  const together = await found(ids);
  const halves = (await found(ids.slice(0, half))) + (ids.length > 1 ? await found(ids.slice(half)) : 0);
  return together === halves;
}

type SampledResource = Record<string, unknown> & { id: string };

/** The data of a search's first page, also parsed, and its self link. */
interface Sample {
  entries: Entry[];
  resources: SampledResource[];
  self: string | undefined;
}

/** Whether searches by the parameters of the compartment find what is in it. Each parameter must be known to the
 *  source, must find nothing for a patient that does not exist, and must find those of the type's oldest and newest
 *  resources that refer to a patient by it. (HAPI never finds what was written before the patient that it refers to.)
 *  @throws FailureError of the source */
export async function findsByMembers(
  { work, probe: { sort, batch }, compartment }: Planning,
  type: string,
  { parameters }: Capabilities,
): Promise<boolean> {
  const { source, task } = work;
  // the Groups of an export are searched by their own ids
  if (type === "Group" && task.export.level === "Group") return true;
  const listed = parameters.get(type);
  const wanted = compartment.parameters(type);
  if (listed && listed.size > 0 && wanted.some((parameter) => !listed.has(parameter))) return false;
  const ends: SampledResource[][] = [];
  for (const order of sort ? (["up", "down"] as const) : [undefined])
    ends.push((await readSample(source, { type, count: sampleSize, order }))?.resources ?? []);
  // from the two ends in turn, as only the first that refer to a patient are searched for
  const resources = Array.from({ length: sampleSize }, (_, at) => ends.flatMap((end) => end[at] ?? [])).flat();
  if (resources.length === 0) return true;
  // the search names each resource twice, by its patient and by its id, and one page must answer it
  const most = Math.min(Math.max(1, batch! / 2), ...ends.map(({ length }) => length || sampleSize));
  for (const parameter of wanted) {
    if (!(await findsNobody(work, type, parameter))) return false;
    const examples = new Map<string, string>();
    for (const resource of resources) {
      const [patient] = resource.resourceType === type ? compartment.patientsBy(resource, parameter) : [];
      if (patient !== undefined && examples.size < most) examples.set(resource.id, `Patient/${patient}`);
    }
    if (examples.size > 0 && !(await findsExamples(source, type, parameter, examples))) return false;
  }
  const unclear = resources.map((resource) => ({ id: resource.id, references: compartment.unclearOf(resource) }));
  return findsUnclear(source, type, unclear.filter(({ references }) => references.length > 0).slice(0, most));
}

/** Whether the source finds each of these resources by the patients that it may refer to. Where it does not, all of the
 *  type is read, so that these resources can be told: no search by members would show them.
 *  @param rows that refer to patients by another address, a URN or an identifier */
async function findsUnclear(source: SourceClient, type: string, rows: readonly UnclearRow[]): Promise<boolean> {
  const asked = { type, questions: new PatientQuestions(source), isMember: () => true };
  return ![...(await decideUnclear(rows, asked)).values()].includes("left");
}

/** Whether the parameter is known, and finds nothing for a patient that does not exist. */
async function findsNobody({ source, random }: Work, type: string, parameter: string): Promise<boolean> {
  const by = { parameter, values: [`Patient/${random(16).toString("hex")}`] };
  const sample = await readSample(source, { type, by, count: 1 });
  return (
    sample !== undefined && sample.entries.length === 0 && ignoredParameters(`${parameter}=`, sample.self).length === 0
  );
}

/** Whether the parameter finds all examples.
 *  @param examples ids of resources, with the patient that each refers to by the parameter */
async function findsExamples(
  source: SourceClient,
  type: string,
  parameter: string,
  examples: ReadonlyMap<string, string>,
): Promise<boolean> {
  const by = { parameter, values: [...new Set(examples.values())] };
  const filter = `_id=${[...examples.keys()].join(",")}`;
  const sample = await readSample(source, { type, by, filter, count: examples.size });
  return new Set(sample?.entries.map(({ id }) => id)).size >= examples.size;
}

/** @returns undefined when the source refuses the search */
async function readSample(source: SourceClient, search: Search): Promise<Sample | undefined> {
  const answer = await probePage(source, searchURL(search));
  if (!("page" in answer)) return undefined;
  const { bytes, page } = answer;
  const entries = page.entries.filter(({ mode }) => mode !== "outcome");
  const resources = entries.map(({ start, end }) => JSON.parse(bytes.toString("utf8", start, end)) as SampledResource);
  return { entries, resources, self: page.self };
}

/** The members of one shard, as indexes [from, to) of Cohort.patients. */
export interface MemberRange {
  members: [from: number, to: number];
  /** what the searches by these members count together; absent where the source does not count */
  expected?: number;
  /** what each of them counts */
  counts?: number[];
}

/** How the searches of a type by some members are asked about. */
export interface MemberSearches {
  /** what the source counts, one number for each filter; undefined where it does not count */
  count(by: NonNullable<Search["by"]>): Promise<readonly number[] | undefined>;
  /** whether their first pages show no resource */
  showsNothing(by: NonNullable<Search["by"]>): Promise<boolean>;
}

/** Cuts the cohort into ranges of members for the shards of a type, each with about `max` resources. A batch that has
 *  nothing now is left out, unless it lies inside a range. What it had at transactionTime is found in the type's tail.
 *  That such batches are empty is proven by the pages of one of them: a server may count 0 in searches that it does not
 *  count.
 *  @param max resources of a range */
export async function cutMembers(
  type: string,
  batches: MemberBatches,
  max: number,
  ask: MemberSearches,
): Promise<MemberRange[]> {
  const { cohort, size } = batches;
  const total = cohort.patients.length;
  // the Groups of the export are searched by their own ids, all at once
  const step = type === "Group" && cohort.groups.length > 0 ? total : size;
  const parts = Array.from({ length: Math.ceil(total / step) }, (_, at): [number, number] => [
    at * step,
    Math.min(total, (at + 1) * step),
  ]);
  const counts = await eachParallel(parts, async (part) => {
    const ofPart: number[] = [];
    for (const by of batchesOf(type, part, batches)) ofPart.push(...((await ask.count(by)) ?? [Number.NaN]));
    return ofPart;
  });
  let isCounted = !counts.flat().some(Number.isNaN);
  const isZero = (ofPart: readonly number[]) => ofPart.every((count) => count === 0);
  const zero = parts[counts.findIndex(isZero)];
  for (const by of zero ? batchesOf(type, zero, batches) : []) isCounted &&= await ask.showsNothing(by);
  const ranges: (MemberRange & { held: number })[] = [];
  for (const [index, members] of parts.entries()) {
    const held = isCounted
      ? counts[index]!.reduce((sum, one) => sum + one, 0)
      : ((members[1] - members[0]) * max) / membersPerShard;
    const last = ranges.at(-1);
    if (held === 0) continue;
    if (!last || last.held + held > max) ranges.push({ members, held });
    else {
      last.members = [last.members[0], members[1]];
      last.held += held;
    }
  }
  return ranges.map(({ members, held }) => ({
    members,
    ...(isCounted && { expected: held, counts: counts.slice(members[0] / step, Math.ceil(members[1] / step)).flat() }),
  }));
}
