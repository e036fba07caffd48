import type { Cohort } from "../../cohort.ts";
import type { Plan, Shard, Task, TypeCount } from "../../contracts.ts";
import { terminal } from "../../failure.ts";
import { firstContactSeconds } from "../../fhir/client.ts";
import { readCapabilities, readClock } from "../../fhir/reads.ts";
import { cohortPath, planPath } from "../../sink/layout.ts";
import { zeroTotals } from "../../totals.ts";
import { eachParallel } from "../parallel.ts";
import { isReadLast } from "../read/provenance.ts";
import type { MemberBatches } from "../read/searches.ts";
import { compartmentOf } from "../run.ts";
import { readCohort, readPlan } from "../stored.ts";
import type { CommandResult, Work } from "../work.ts";
import { findsByMembers, probeBatchSize } from "./batches.ts";
import { type DraftState, PlanDraft, type Planning, type SourceProbe } from "./draft.ts";
import { resolveGroup } from "./group.ts";
import { checkCounts, findCaps, isEstimating } from "./held.ts";
import { packageSize, packShards, shardSize } from "./packages.ts";
import {
  checkFilter,
  lookAtTypes,
  probeSort,
  probeStamps,
  probeWindows,
  TypeSamples,
  type TypesSeen,
} from "./probes.ts";
import { boundsOf, cutType, refusedShard } from "./shards.ts";
import { chooseRelease, chooseTypes, countMissingPatients, readNames, searchableTypes } from "./source-facts.ts";
import { isSteady, probeHistory } from "./steady.ts";

const skewWarningMs = 60_000;
const stampsDoubt =
  "The source stamps resources when it is asked for them: their meta.lastUpdated does not say when they were written, so some may be newer than transactionTime.";

/** Whether the plan's pod exports and seals everything itself. The answer follows from what is stored, so it is the
 *  same each time: otherwise a second run of the plan could leave half of the work to a Job. */
export function isInline({ shards }: Plan, { plan: { inlineResources } }: Task): boolean {
  return (
    shards.every(({ expected, refused }) => expected !== undefined || refused !== undefined) &&
    shards.reduce((sum, { expected = 0 }) => sum + expected, 0) < inlineResources
  );
}

/** Probes source and target, fixes transactionTime, cuts the work into shards and packages, and writes plan.json, once.
 *  @throws FailureError */
export async function planExport(work: Work): Promise<CommandResult> {
  const { task, store } = work;
  await store.prepare();
  const stored = await readPlan(store, task.uid);
  if (stored) return planResult(stored);
  const draft = await PlanDraft.open(work, () => beginDraft(work));
  const made = await makePlan(work, draft);
  if (await draft.createOnce(planPath, Buffer.from(JSON.stringify(made)))) await draft.remove();
  // another planner may have been first: the plan in storage counts
  return planResult((await readPlan(store, task.uid)) ?? made);
}

function planResult({ transactionTime, packages, shards }: Plan): CommandResult {
  const byType = Map.groupBy(shards, ({ type }) => type);
  const types = [...byType].map(([type, ofType]): TypeCount => {
    const isCounted = ofType.every(({ expected }) => expected !== undefined);
    const expected = ofType.reduce((sum, shard) => sum + (shard.expected ?? 0), 0);
    return { type, ...zeroTotals, ...(isCounted && { expected }) };
  });
  return { transactionTime, packages: packages.length, types };
}

/** An export of the past waits this long for the counts that come before its moment. */
const mostSettleMs = 60_000;

/** The first contact with the source: what it can do, what it counts, and the moment that the export is of. The counts
 *  come first: where no history tells what was deleted right behind the moment, they do (steady.ts). */
async function beginDraft(work: Work): Promise<DraftState> {
  const { task, source, clock } = work;
  const capabilities = await readCapabilities(source, Math.min(firstContactSeconds, task.source.retrySeconds));
  const warnings: string[] = [];
  const release = chooseRelease(task.export, capabilities, warnings);
  const types = chooseTypes(task.export, searchableTypes(capabilities, warnings), release);
  const names = task.export.level === "System" ? [] : await readNames(source, capabilities, types[0]!);

  const begun = clock.monotonic();
  const seen = await lookAtTypes(work, types, isOfCohort(task));
  const settleMs = task.source.settleSeconds * 1000;
  const isHistoryLess = !(capabilities.typeHistory && task.source.history);
  if (isHistoryLess && settleMs > 0 && settleMs <= mostSettleMs) await clock.sleep(settleMs, work.signal);
  const sourceTime = await readClock(source, types[0] ?? "Patient", clock);
  if (sourceTime === undefined)
    warnings.push("The source sends no Date header of its own: this machine's clock was used for transactionTime.");
  else if (Math.abs(sourceTime - clock.now()) > skewWarningMs)
    warnings.push("The source's clock is more than 60 s off this machine's; transactionTime follows the source's.");
  const now = sourceTime ?? Math.floor(clock.now() / 1000) * 1000;
  const end = now - settleMs;
  if (task.export.since !== undefined && Date.parse(task.export.since) >= end)
    warnings.push("spec.since is not before transactionTime, which follows the source's clock: nothing is exported.");
  const { typeHistory, instanceHistory } = capabilities;
  // To the minute: a smaller difference is less than what is allowed for anyway.
  const clockAheadMs = sourceTime === undefined ? 0 : Math.round((sourceTime - clock.now()) / 60_000) * 60_000;
  return {
    v: 1,
    uid: task.uid,
    end,
    types,
    typeHistory,
    instanceHistory,
    release,
    names,
    clockAheadMs,
    warnings,
    seen,
    // Times of the source are of whole seconds here.
    ...((settleMs === 0 || isHistoryLess) &&
      settleMs <= mostSettleMs && { seenFrom: now - Math.ceil(clock.monotonic() - begun) - 1000 }),
    done: {},
    counts: {},
  };
}

/** Whether only some patients are in the export. */
const isOfCohort = ({ export: { level, patients } }: Task): boolean =>
  level === "Group" || (level === "Patient" && patients !== undefined && patients.length > 0);

async function makePlan(work: Work, draft: PlanDraft): Promise<Plan> {
  const { task } = work;
  const probe = draft.state.probed ?? (await probeSource(work, draft));
  const { end, types, typeHistory, instanceHistory, clockAheadMs = 0, warnings } = draft.state;
  const { release, names = [] } = draft.state;
  const doubts = [...(draft.state.doubts ?? []), ...(probe.stampsMove ? [stampsDoubt] : [])];
  const { windows, seconds, counts, sort, batch } = probe;
  const shards = await cutTypes({
    work,
    draft,
    probe,
    compartment: compartmentOf(work, draft.state),
    bounds: boundsOf(task.export, end, probe),
  });
  const cost = ({ expected, refused }: Shard) => expected ?? (refused === undefined ? task.plan.shardResources : 0);
  const total = shards.reduce((sum, shard) => sum + cost(shard), 0);
  return {
    v: 1,
    uid: task.uid,
    // the last millisecond of the export, so that "up to and including transactionTime" is true
    transactionTime: new Date(end - 1).toISOString(),
    source: {
      ...(release && { release }),
      ...(names.length > 0 && { names }),
      windows,
      ...(seconds && { seconds }),
      counts,
      sort,
      typeHistory,
      instanceHistory,
      count: task.source.count,
      ...(batch !== undefined && { batch }),
      ...(probe.stampsMove && { stampsMove: true as const }),
      ...(clockAheadMs !== 0 && { clockAheadMs }),
    },
    shards,
    ...(task.export.since !== undefined && { types }),
    ...(probe.empty.length > 0 && { empty: probe.empty }),
    key: work.random(16).toString("hex"),
    ...(warnings.length > 0 && { warnings }),
    ...(doubts.length > 0 && { doubts }),
    packages: packShards(
      shards.filter(({ type }) => !isReadLast(task.export, type)),
      cost,
      packageSize(total, task.plan, task.source.share.requests),
    ),
  };
}

async function cutTypes(planning: Planning): Promise<Shard[]> {
  const { work, draft, probe, bounds } = planning;
  const batches = await memberBatches(planning);
  const capabilities = batches && (await readCapabilities(work.source, work.task.source.retrySeconds));
  if (bounds.till <= (bounds.from ?? 0)) return [];
  const cut = async (type: string): Promise<Shard[]> => {
    if (probe.empty.includes(type)) return [];
    const refused = probe.refused?.[type];
    if (refused !== undefined) return [refusedShard(bounds, type, refused)];
    // What is read last is found by more than its members.
    const isByMembers =
      capabilities && !isReadLast(work.task.export, type) && (await findsByMembers(planning, type, capabilities));
    const shards = await cutType(planning, type, isByMembers ? batches : undefined);
    const steady = !probe.history && (await isSteady(planning, type));
    return steady ? shards.map((shard) => ({ ...shard, steady })) : shards;
  };
  return (await eachParallel(draft.state.types, (type) => draft.shardsOf(type, () => cut(type)))).flat();
}

async function memberBatches({ work, probe, compartment }: Planning): Promise<MemberBatches | undefined> {
  if (probe.batch === undefined) return undefined;
  return { cohort: (await readCohort(work))!, size: probe.batch, compartment };
}

/** Finds out what the source's searches can do, and stores it in the draft. */
async function probeSource(work: Work, draft: PlanDraft): Promise<SourceProbe> {
  const { task, log } = work;
  const { typeFilters = [] } = task.export;
  // first of all, because the cohort is written once and must be of the same moment as the plan
  await draft.fixMoment(work);
  const cohort = await makeCohort(work, draft);
  const { types: all } = draft.state;
  const { held: seen, refused } = (draft.state.seen ??= await lookAtTypes(work, all, isOfCohort(task)));
  checkRefused(work, all, refused);
  const searched = all.filter((type) => refused[type] === undefined);
  await eachParallel(typeFilters, async (filter, index) => {
    if (!Object.hasOwn(refused, filter.slice(0, filter.indexOf("?")))) await checkFilter(work, index, filter);
  });
  const samples = new TypeSamples(work.source);
  const { empty, held: checked } = await checkCounts(work, searched, seen);
  const types = searched.filter((type) => !empty.includes(type));
  const [stampsMove, kept, sort, batch, history] = await Promise.all([
    probeStamps(work, types, samples),
    probeWindows(work, types, checked, samples),
    task.source.sort !== false && probeSort(work, types),
    cohort && probeBatchSize(work, cohort),
    probeHistory(work, draft.state, types[0]),
  ]);
  const counted = stampsMove ? { windows: false, counts: Object.keys(checked).length > 0, seconds: false } : kept;
  const held = (await isEstimating(work, checked, counted)) ? {} : checked;
  // Windows are shown by pages then, too.
  const isRefuted = held !== checked && !stampsMove;
  const windows = isRefuted ? await probeWindows(work, types, held, samples) : counted;
  const { caps, uncounted } = await findCaps(work, held, windows);
  const { headers, proxy } = task.source;
  const wire = { ...(headers && { headers: headers.map(({ name }) => name) }), ...(proxy && { proxy: proxy.url }) };
  log.info({ types: types.length, refused, ...wire, ...windows, sort, batch, caps, uncounted }, "source probed");
  const total = Object.values(held).reduce((sum, count) => sum + count, 0);
  draft.state.probed ??= {
    ...windows,
    counts: windows.counts && Object.keys(held).length > 0,
    sort,
    ...(batch !== undefined && { batch }),
    empty,
    held,
    refused,
    stampsMove,
    history,
    caps,
    uncounted,
    max: shardSize(total, task.plan, task.source.share.requests),
  };
  return draft.state.probed;
}

/** Types that the source refuses are told, and the others exported.
 *  @throws terminal SourceUnauthorized or SourceInconsistent where none is left, or onResourceError is Fail */
function checkRefused({ task }: Work, types: readonly string[], refused: TypesSeen["refused"]): void {
  const [first] = Object.entries(refused);
  const isFatal = task.export.onResourceError === "Fail" || Object.keys(refused).length === types.length;
  if (!first || !isFatal) return;
  const [type, status] = first;
  const isSignIn = status === 401 || status === 403;
  throw terminal(
    isSignIn ? "SourceUnauthorized" : "SourceInconsistent",
    `the source refuses all searches of ${type} (${status || "no whole answer"}); ${
      isSignIn
        ? "check spec.auth of the FhirSource and what the server allows to that client"
        : "check the log of the server"
    }, or leave the type out of spec.types`,
  );
}

/** Resolves who is in the export, once: everything later reads the stored cohort, so that all of it has one cohort.
 *  @returns undefined where everybody is in the export
 *  @throws terminal UnknownGroup, UnsupportedParameter */
async function makeCohort(work: Work, draft: PlanDraft): Promise<Cohort | undefined> {
  const { task } = work;
  const { level, groupId, patients } = task.export;
  if (!isOfCohort(task)) return undefined;
  const found: Omit<Cohort, "v" | "uid"> =
    level === "Group"
      ? await membersOfGroup(work, draft, groupId!)
      : { patients: [...new Set(patients)].sort(), groups: [] };
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
  await draft.createOnce(cohortPath, Buffer.from(JSON.stringify(cohort)));
  // another planner may have been first: the cohort in storage counts
  return readCohort(work);
}

/** The members of a Group. The draft takes what the user should know of them. */
async function membersOfGroup(work: Work, { state }: PlanDraft, groupId: string): Promise<Omit<Cohort, "v" | "uid">> {
  const { names } = compartmentOf(work, state);
  const { patients, groups, ...told } = await resolveGroup(work.source, names, groupId, state.end);
  const gone = await countMissingPatients(work.source, patients);
  if (gone > 0)
    told.notices.push(
      `${gone} members of the Group are no Patients that the source has now; nothing is exported of those that it never had.`,
    );
  state.warnings = [...new Set([...state.warnings, ...told.notices])];
  state.doubts = [...new Set([...(state.doubts ?? []), ...told.doubts])];
  state.names = [...new Set([...(state.names ?? []), ...told.names])];
  return { patients, groups };
}
