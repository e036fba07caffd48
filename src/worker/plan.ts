import { randomBytes } from "node:crypto";
import type { Cohort, Plan, Shard, Task, TypeCount } from "../contracts.ts";
import { terminal } from "../failure.ts";
import { compartmentTypes } from "../fhir/compartment.ts";
import { type Capabilities, countMatches, readCapabilities, readClock } from "../fhir/reads.ts";
import type { Search } from "../fhir/search.ts";
import { cohortPath, planPath, shardId } from "../sink/layout.ts";
import type { Store } from "../sink/store.ts";
import { canBatch, cutMembers, probeBatches } from "./batches.ts";
import { readCohort, resolveGroup } from "./cohort.ts";
import { eachParallel } from "./parallel.ts";
import { askElements, checkFilter, probeSort, probeWindows, timePages, type Windows } from "./probes.ts";
import type { Outcome, Work } from "./task.ts";
import { addsUp, areSlow, cutWindows, packageSize, packShards, shardSize } from "./windows.ts";

// the plan's first contact; later ones wait for Task.source.retrySeconds (DESIGN section 5)
const firstContactSeconds = 30;
/** pages of a type from which on it pays to time twelve of them */
const timedFrom = 40;
const skewWarningMs = 60_000;
/** Binary is no resource of bulk data, OperationOutcome and Parameters are only ever generated. */
const neverByDefault = new Set(["Binary", "OperationOutcome", "Parameters", "Bundle"]);

/** Whether the plan's pod does all of it: the same answer each time it is asked, or a second run would leave half of it to a Job. */
export function isInline({ shards }: Plan, { plan: { inlineResources } }: Task): boolean {
  return (
    shards.every(({ expected }) => expected !== undefined) && shards.reduce((sum, { expected }) => sum + expected!, 0) < inlineResources
  );
}

/** Probes source and target, freezes transactionTime, cuts the work into shards and packages and writes plan.json, once. */
export async function plan(work: Work): Promise<Outcome> {
  const { task, store } = work;
  await store.prepare();
  const existing = await readPlan(store, task.uid);
  if (existing) return report(existing);
  const made = await makePlan(work);
  await store.create(planPath, Buffer.from(JSON.stringify(made)));
  // another plan pod may have been first; what stands there counts
  return report((await readPlan(store, task.uid)) ?? made);
}

/** @throws terminal ForeignOutput, TaskVersion */
export async function readPlan(store: Store, uid: string): Promise<Plan | undefined> {
  const found = await store.read(planPath);
  if (!found) return undefined;
  const stored = JSON.parse(found.bytes.toString()) as Plan;
  if (stored.uid !== uid)
    throw terminal("ForeignOutput", "the export's folder holds the plan of another export; choose another container or name");
  if (stored.v !== 1) throw terminal("TaskVersion", `plan.json has version ${stored.v}, made by another release`);
  return stored;
}

function report({ transactionTime, packages, shards }: Plan): Outcome {
  const types = new Map<string, TypeCount>();
  for (const { type, expected } of shards) {
    const count = types.get(type) ?? { type, files: 0, resources: 0, bytes: 0, errors: 0, ...(expected !== undefined && { expected: 0 }) };
    if (expected === undefined) delete count.expected;
    else if (count.expected !== undefined) count.expected += expected;
    types.set(type, count);
  }
  return { transactionTime, packages: packages.length, types: [...types.values()] };
}

async function makePlan(work: Work): Promise<Plan> {
  const { task, source, log } = work;
  const capabilities = await readCapabilities(source, Math.min(firstContactSeconds, task.source.retrySeconds));
  const types = chooseTypes(task.export, capabilities);
  const warnings: string[] = [];

  const clock = await readClock(source, types[0] ?? "Patient");
  if (clock === undefined) warnings.push("The source sends no Date header of its own: this machine's clock was used for transactionTime.");
  else if (Math.abs(clock - Date.now()) > skewWarningMs)
    warnings.push("The source's clock is more than 60 s off this machine's; transactionTime follows the source's.");
  const end = (clock ?? Math.floor(Date.now() / 1000) * 1000) - task.source.settleSeconds * 1000;

  const cohort = await makeCohort(work, end, warnings);
  for (const [index, filter] of (task.export.typeFilters ?? []).entries()) await checkFilter(work, index, filter);
  const probed = await probeWindows(work, types);
  const { windows, counts } = probed;
  const sort = task.source.sort !== false && (await probeSort(work, types));
  const batch = cohort && (await probeBatches(work, cohort));
  log.info({ types: types.length, ...probed, sort, batch }, "source probed");

  const bounds = boundsOf(task.export, end, probed);
  const held = await eachParallel(types, async (type) => (counts ? countMatches(source, { type }) : undefined));
  const max = shardSize(
    held.reduce<number>((sum, count) => sum + (count ?? 0), 0),
    task.plan,
    task.source.share.requests,
  );
  const planOne = async (type: string, index: number) => {
    if (held[index] === 0) return [];
    const size = batch !== undefined && (await canBatch(work, type, capabilities, batch, sort)) ? batch : undefined;
    return planType(work, type, bounds, { ...probed, sort }, max, size === undefined ? undefined : { cohort: cohort!, size });
  };
  const shards = bounds.till > (bounds.from ?? 0) ? (await eachParallel(types, planOne)).flat() : [];
  const cost = (shard: Shard) => shard.expected ?? task.plan.shardResources;
  const size = packageSize(
    shards.reduce((sum, shard) => sum + cost(shard), 0),
    task.plan,
    task.source.share.requests,
  );
  return {
    v: 1,
    uid: task.uid,
    transactionTime: new Date(end - 1).toISOString(),
    source: {
      windows,
      counts,
      sort,
      typeHistory: capabilities.typeHistory,
      instanceHistory: capabilities.instanceHistory,
      count: task.source.count,
      ...(batch !== undefined && { batch }),
    },
    shards,
    ...(task.export.since !== undefined && { types }),
    key: randomBytes(16).toString("hex"),
    ...(warnings.length > 0 && { warnings }),
    packages: packShards(shards, cost, size),
  };
}

/** @throws terminal UnknownType, UnsupportedParameter naming `types` */
export function chooseTypes({ level, types }: Task["export"], capabilities: Capabilities): string[] {
  const inLevel = (type: string) => level === "System" || compartmentTypes.has(type);
  if (!types?.length) return [...capabilities.types].filter((type) => inLevel(type) && !neverByDefault.has(type)).sort();
  const unknown = types.filter((type) => !capabilities.types.has(type));
  if (unknown.length > 0) throw terminal("UnknownType", `spec.types: the source cannot search ${unknown.join(", ")}`);
  const outside = types.filter((type) => !inLevel(type));
  if (outside.length > 0)
    throw terminal(
      "UnsupportedParameter",
      `spec.types: ${outside.join(", ")} is not in the Patient compartment; use level System, or leave it out`,
    );
  return [...new Set(types)].sort();
}

/** Who is in the export, resolved once: later commands only read it (DESIGN section 7). */
async function makeCohort(work: Work, at: number, warnings: string[]): Promise<Cohort | undefined> {
  const { task, source, store } = work;
  const { level, groupId, patients } = task.export;
  if (level === "System" || (level === "Patient" && !patients?.length)) return undefined;
  const resolved =
    level === "Group" ? await resolveGroup(source, groupId!, at) : { patients: [...new Set(patients)].sort(), groups: [], notices: [] };
  const { notices, ...found } = resolved;
  warnings.push(...notices);
  if (level === "Group" && patients?.length) {
    const all = new Set(found.patients);
    const outside = patients.filter((id) => !all.has(id));
    if (outside.length > 0)
      throw terminal(
        "UnsupportedParameter",
        `spec.patients: ${outside.length} of ${patients.length} are not members of the Group named by spec.groupId`,
      );
    found.patients = [...new Set(patients)].sort();
  }
  const cohort: Cohort = { v: 1, uid: task.uid, ...found };
  await store.create(cohortPath, Buffer.from(JSON.stringify(cohort)));
  // a plan before this one may have been first; what stands there counts
  return readCohort(work);
}

interface Bounds {
  from: number | undefined;
  till: number;
}

/** What is searched for, in milliseconds. What it shows beside since and until is kept out by select.ts. */
function boundsOf({ since, until }: Task["export"], end: number, { seconds }: Windows): Bounds {
  const [from, till] = [since, until].map((instant) => (instant === undefined ? undefined : Date.parse(instant)));
  const step = seconds ? 1000 : 1;
  return {
    from: from === undefined ? undefined : Math.floor(from / step) * step,
    till: Math.min(end, till === undefined ? Number.POSITIVE_INFINITY : Math.ceil(till / step) * step),
  };
}

async function planType(
  { task, source, log }: Work,
  type: string,
  bounds: Bounds,
  { windows, counts, sort }: Windows & { sort: boolean },
  max: number,
  batches?: { cohort: Cohort; size: number },
): Promise<Shard[]> {
  const filters = (task.export.typeFilters ?? []).filter((text) => text.startsWith(`${type}?`)).map((text) => text.slice(type.length + 1));
  const elements = await askElements(task, source, type);
  const instant = (ms: number) => new Date(ms).toISOString();
  const shard = (number: number, from: number | undefined, till: number, expected?: number): Shard => ({
    id: shardId(type, number),
    type,
    ...(from !== undefined && { from: instant(from) }),
    till: instant(till),
    // filters that overlap would be counted twice
    ...(expected !== undefined && filters.length < 2 && { expected }),
    ...(filters.length > 0 && { filters }),
    ...(elements !== undefined && { elements }),
  });
  const withoutWindows = (expected?: number) => [
    { ...shard(1, bounds.from, bounds.till, expected), ...(windows && { windows: false as const }) },
  ];
  // a window that leaves nothing out but what is newer could hide resources without a lastUpdated, and spares nothing
  const isWhole = bounds.from === undefined && task.export.until === undefined;
  const uncounted = () => (isWhole ? withoutWindows() : [shard(1, bounds.from, bounds.till)]);
  const count = async (from: number | undefined, till: number | undefined, by?: Search["by"]): Promise<number | undefined> => {
    if (!counts) return undefined;
    let sum = 0;
    for (const filter of filters.length > 0 ? filters : [undefined]) {
      const found = await countMatches(source, {
        type,
        filter,
        by,
        ...(windows && { from: from === undefined ? undefined : instant(from), till: till === undefined ? undefined : instant(till) }),
      });
      if (found === undefined) return undefined;
      sum += found;
    }
    return sum;
  };
  if (batches) {
    const { cohort, size } = batches;
    const isWindowed = windows && (counts ? await addsUp(count, bounds.till) : !isWhole);
    const ranges = await cutMembers(type, cohort, size, max, (by) => count(bounds.from, bounds.till, by));
    // members who have nothing now may have had something a moment ago: the tail is read where there is a shard
    if (ranges.length === 0 && cohort.patients.length > 0 && (await count(undefined, undefined)) !== 0)
      ranges.push({ members: [0, 0], expected: 0 });
    return ranges.map(({ members, expected }, index) => ({
      ...shard(index + 1, bounds.from, bounds.till, isWindowed ? expected : undefined),
      ...(windows && !isWindowed && { windows: false as const }),
      members,
    }));
  }
  if (!windows) return withoutWindows();
  if (!counts) return uncounted();
  const total = await count(bounds.from, bounds.till);
  // none in the window, but some outside of it: what was in it a moment ago is found when it is closed
  if (total === 0) return (await count(undefined, undefined)) === 0 ? [] : [shard(1, bounds.from, bounds.till, 0)];
  if (total === undefined) return uncounted();
  if (!(await addsUp(count, bounds.till))) return withoutWindows();
  const cut = await cutWindows(bounds, total, max, count);
  if (!cut) return withoutWindows();
  const shards = cut.map(({ from, till, expected }, index) => shard(index + 1, from, till, expected));
  if (shards.length === 1 || total < timedFrom * task.source.count) return shards;
  const some = [...new Set([shards[0]!, shards[shards.length >> 1]!, shards.at(-1)!])];
  const times = await timePages(source, { type, filter: filters[0], elements, sort, count: task.source.count }, some);
  if (!areSlow(times, max / task.source.count)) return shards;
  log.info({ type, ...times }, "windows cost more than plain paging");
  return withoutWindows(total);
}
