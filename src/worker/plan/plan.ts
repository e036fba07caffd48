import { randomBytes } from "node:crypto";
import type { Cohort, Plan, Shard, Task, TypeCount } from "../../contracts.ts";
import { terminal } from "../../failure.ts";
import { compartmentTypes } from "../../fhir/compartment.ts";
import { type Capabilities, countMatches, readCapabilities, readClock } from "../../fhir/reads.ts";
import { cohortPath, planPath } from "../../sink/layout.ts";
import { eachParallel } from "../parallel.ts";
import { readCohort, readPlan } from "../stored.ts";
import type { CommandResult, Work } from "../work.ts";
import { canBatch, probeBatches } from "./batches.ts";
import { type Findings, Planning } from "./draft.ts";
import { resolveGroup } from "./group.ts";
import { packageSize, packShards, shardSize } from "./packages.ts";
import { checkFilter, probeSort, probeWindows } from "./probes.ts";
import { boundsOf, cutType } from "./shards.ts";

// the plan's first contact; later ones wait for Task.source.retrySeconds (DESIGN section 5)
const firstContactSeconds = 30;
const skewWarningMs = 60_000;
/** Binary is no resource of bulk data, OperationOutcome and Parameters are only ever generated. */
const neverByDefault = new Set(["Binary", "OperationOutcome", "Parameters", "Bundle"]);

/** Whether the plan's pod does all of it: the same answer each time it is asked, or a second run would leave half of it to a Job. */
export function isInline({ shards }: Plan, { plan: { inlineResources } }: Task): boolean {
  return (
    shards.every(({ expected }) => expected !== undefined) &&
    shards.reduce((sum, { expected }) => sum + expected!, 0) < inlineResources
  );
}

/** Probes source and target, freezes transactionTime, cuts the work into shards and packages and writes plan.json, once. */
export async function plan(work: Work): Promise<CommandResult> {
  const { task, store } = work;
  await store.prepare();
  const existing = await readPlan(store, task.uid);
  if (existing) return report(existing);
  const planning = await Planning.open(work, () => begin(work));
  const made = await makePlan(work, planning);
  await planning.make(planPath, Buffer.from(JSON.stringify(made)));
  await planning.remove();
  // another plan pod may have been first; what stands there counts
  return report((await readPlan(store, task.uid)) ?? made);
}

function report({ transactionTime, packages, shards }: Plan): CommandResult {
  const types = new Map<string, TypeCount>();
  for (const { type, expected } of shards) {
    const count = types.get(type) ?? {
      type,
      files: 0,
      resources: 0,
      bytes: 0,
      errors: 0,
      ...(expected !== undefined && { expected: 0 }),
    };
    if (expected === undefined) delete count.expected;
    else if (count.expected !== undefined) count.expected += expected;
    types.set(type, count);
  }
  return { transactionTime, packages: packages.length, types: [...types.values()] };
}

/** First contact with the source: what it can, and the moment that the export is of. */
async function begin({ task, source }: Work): Promise<Findings> {
  const capabilities = await readCapabilities(source, Math.min(firstContactSeconds, task.source.retrySeconds));
  const types = chooseTypes(task.export, capabilities);
  const warnings: string[] = [];

  const clock = await readClock(source, types[0] ?? "Patient");
  if (clock === undefined)
    warnings.push("The source sends no Date header of its own: this machine's clock was used for transactionTime.");
  else if (Math.abs(clock - Date.now()) > skewWarningMs)
    warnings.push("The source's clock is more than 60 s off this machine's; transactionTime follows the source's.");
  const end = (clock ?? Math.floor(Date.now() / 1000) * 1000) - task.source.settleSeconds * 1000;
  const { typeHistory, instanceHistory } = capabilities;
  return { v: 1, uid: task.uid, end, types, typeHistory, instanceHistory, warnings, done: {}, counts: {} };
}

async function makePlan(work: Work, planning: Planning): Promise<Plan> {
  const { task, source } = work;
  if (!planning.findings.probed) await probe(work, planning);
  const { end, types, typeHistory, instanceHistory, warnings, probed } = planning.findings;
  const { windows, seconds, counts, sort, batch, empty } = probed!;
  const cohort = batch === undefined ? undefined : await readCohort(work);
  const capabilities = cohort && (await readCapabilities(source, task.source.retrySeconds));
  const bounds = boundsOf(task.export, end, probed!);
  const planType = (type: string) =>
    planning.shardsOf(type, async () => {
      if (empty.includes(type)) return [];
      const isSearched = capabilities && (await canBatch(work, type, capabilities, batch!, sort));
      return cutType(work, planning, type, bounds, probed!, isSearched ? { cohort: cohort!, size: batch! } : undefined);
    });
  const shards = bounds.till > (bounds.from ?? 0) ? (await eachParallel(types, planType)).flat() : [];
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
      ...(seconds && { seconds }),
      counts,
      sort,
      typeHistory,
      instanceHistory,
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
  if (!types?.length)
    return [...capabilities.types].filter((type) => inLevel(type) && !neverByDefault.has(type)).sort();
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

async function probe(work: Work, planning: Planning): Promise<void> {
  const { task, source, log } = work;
  const { typeFilters = [] } = task.export;
  // the cohort is written once, and is of one moment with the plan
  await planning.fix(work);
  const cohort = await makeCohort(work, planning);
  for (const [index, filter] of typeFilters.entries()) await checkFilter(work, index, filter);
  const { types } = planning.findings;
  const windows = await probeWindows(work, types);
  const sort = task.source.sort !== false && (await probeSort(work, types));
  const batch = cohort && (await probeBatches(work, cohort));
  log.info({ types: types.length, ...windows, sort, batch }, "source probed");
  const held = await eachParallel(types, async (type) => (windows.counts ? countMatches(source, { type }) : undefined));
  const total = held.reduce<number>((sum, count) => sum + (count ?? 0), 0);
  planning.findings.probed ??= {
    ...windows,
    sort,
    ...(batch !== undefined && { batch }),
    empty: types.filter((_, index) => held[index] === 0),
    held: Object.fromEntries(types.flatMap((type, index) => (held[index] === undefined ? [] : [[type, held[index]]]))),
    max: shardSize(total, task.plan, task.source.share.requests),
  };
}

/** Who is in the export, resolved once: later commands only read it (DESIGN section 7). */
async function makeCohort(work: Work, planning: Planning): Promise<Cohort | undefined> {
  const { task, source } = work;
  const { end, warnings } = planning.findings;
  const { level, groupId, patients } = task.export;
  if (level === "System" || (level === "Patient" && !patients?.length)) return undefined;
  const resolved =
    level === "Group"
      ? await resolveGroup(source, groupId!, end)
      : { patients: [...new Set(patients)].sort(), groups: [], notices: [] };
  const { notices, ...found } = resolved;
  for (const notice of notices) if (!warnings.includes(notice)) warnings.push(notice);
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
  await planning.make(cohortPath, Buffer.from(JSON.stringify(cohort)));
  // a plan before this one may have been first; what stands there counts
  return readCohort(work);
}
