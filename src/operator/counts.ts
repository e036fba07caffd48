import { toSeconds } from "../api/conditions.ts";
import type { FhirExportStatus } from "../api/fhirexport.gen.ts";
import type { Report, Totals, TypeCount } from "../contracts.ts";
import type { RunView } from "../effects.ts";
import { addTotals, sumByType, zeroTotals } from "../totals.ts";
import { secondsSince } from "./accept.ts";
import type { Facts } from "./facts.ts";
import { proofLines, proofsOf } from "./proofs.ts";

type TypeStatuses = NonNullable<FhirExportStatus["types"]>;
/** the most items of status.types */
const maxTypes = 200;

/** What the plan reported, for the status: transactionTime, and what is expected of each type. */
export function showPlan(status: FhirExportStatus, report: Report): Partial<FhirExportStatus> {
  const planned = (report.types ?? []).slice(0, maxTypes);
  const before = new Map((status.types ?? []).map((one) => [one.type, one]));
  const types: TypeStatuses = planned.map(({ type, expected }) => ({
    state: "Pending",
    ...before.get(type),
    type,
    ...(expected === undefined ? {} : { expected }),
  }));
  const withCount = planned.filter(({ expected }) => expected !== undefined);
  const expected = report.totals?.resources || withCount.reduce((sum, one) => sum + (one.expected ?? 0), 0);
  return {
    ...(report.transactionTime ? { transactionTime: report.transactionTime } : {}),
    ...(types.length > 0 ? { types } : {}),
    progress: {
      percent: 0,
      resources: 0,
      bytes: 0,
      ...status.progress,
      ...(withCount.length > 0 || expected > 0 ? { expectedResources: expected } : {}),
    },
  };
}

/** Progress as the pods report it. It is published at once when it is the first that there is, and then at most every
 *  `progressSeconds`, since each time is one status write. What was published never goes down. */
export function showProgress(facts: Facts, run: RunView): Partial<FhirExportStatus> {
  const { status, now, settings } = facts;
  if (!status.run) return {};
  const old = status.progress ?? {};
  const seen = sumOverIndexes(run);
  const isFirst = !old.resources && seen.totals.resources > 0;
  const sample = status.run.sample ?? (isFirst ? beginSample(facts) : undefined);
  if (!sample) return { run: { ...status.run, sample: beginSample(facts) } };
  if (!isFirst && secondsSince(sample.time, now) < settings.progressSeconds) return {};
  const shown = showCounts(status, run);
  const { resources = 0, expectedResources, ...progress } = shown.progress;
  const speed = speedOf(old.resourcesPerSecond, sample, resources, now);
  const left = expectedResources === undefined ? undefined : Math.max(0, expectedResources - resources);
  const eta = left !== undefined && speed ? toSeconds(new Date(now.getTime() + (left / speed) * 1000)) : undefined;
  const { estimatedCompletionTime: _, ...rest } = progress;
  return {
    ...shown,
    run: { ...status.run, sample: { time: toSeconds(now), resources } },
    progress: {
      ...rest,
      resources,
      ...(expectedResources === undefined ? {} : { expectedResources }),
      ...(speed === undefined ? {} : { resourcesPerSecond: speed }),
      ...(eta ? { estimatedCompletionTime: eta } : {}),
    },
  };
}

/** The counts that the pods of a run report. */
export function showCounts(
  status: FhirExportStatus,
  run: RunView,
): { progress: NonNullable<FhirExportStatus["progress"]>; types?: TypeStatuses } {
  const seen = sumOverIndexes(run);
  const old = status.progress ?? {};
  const resources = Math.max(old.resources ?? 0, seen.totals.resources);
  // While the pod of the plan exports, there is no report yet that says how many resources are expected.
  const expected = old.expectedResources ?? expectedByWorkers(run);
  return {
    progress: {
      ...old,
      ...(expected === undefined ? {} : { expectedResources: expected }),
      percent: Math.max(old.percent ?? 0, Math.min(99, expected ? Math.floor((resources * 100) / expected) : 0)),
      resources,
      bytes: Math.max(old.bytes ?? 0, seen.totals.bytes),
    },
    ...(status.types || seen.types.length > 0 ? { types: mergeTypes(status.types ?? [], seen.types) } : {}),
  };
}

/** The moment and the count from which the speed is measured. */
export const beginSample = ({ status, now }: Facts) => ({
  time: toSeconds(now),
  resources: status.progress?.resources ?? 0,
});

/** The totals that the seal reported, which are exact. */
export function showTotals(status: FhirExportStatus, report: Report): Partial<FhirExportStatus> {
  const { totals } = report;
  const { estimatedCompletionTime: _, resourcesPerSecond: __, ...progress } = status.progress ?? {};
  const proofs = proofsOf(report);
  const types = mergeTypes(status.types ?? [], report.types ?? [], [...proofs.keys()]).map((one) => {
    const proof = proofs.get(one.type);
    return { ...one, state: "Complete" as const, ...(proof && { proof }) };
  });
  return {
    ...(report.transactionTime ? { transactionTime: report.transactionTime } : {}),
    progress: { ...progress, percent: 100, ...(totals ? { resources: totals.resources, bytes: totals.bytes } : {}) },
    ...(types.length > 0 ? { types } : {}),
    ...(proofs.size > 0 ? { proofs: proofLines(proofs) } : {}),
    output: {
      ...status.output,
      ...(report.manifestSHA256 ? { manifestSHA256: report.manifestSHA256 } : {}),
      ...(totals
        ? { files: totals.files, resources: totals.resources, bytes: totals.bytes, errors: totals.errors }
        : {}),
    },
  };
}

/** The counts of all indexes together. An index that is done has a report; one that works has a progress. */
function sumOverIndexes(run: RunView): { totals: Totals; types: TypeCount[] } {
  const working = new Map(run.progress.map((one) => [one.index, one]));
  const counts = [...new Set([...run.reports.keys(), ...working.keys()])].flatMap((index) => {
    const report = run.reports[index];
    if (report && !report.error && report.totals) return { totals: report.totals, types: report.types ?? [] };
    return working.get(index) ?? [];
  });
  return {
    // The types of a report may be cut to fit into its message, so the totals are not summed over them.
    totals: counts.reduce((sum, { totals }) => addTotals(sum, totals), zeroTotals),
    types: sumByType(counts.flatMap(({ types }) => types)).types,
  };
}

/** How many resources are expected, as the workers know it from the plan. */
function expectedByWorkers({ progress }: RunView): number | undefined {
  const expected = progress.flatMap(({ types }) => types.flatMap((type) => type.expected ?? []));
  return expected.length > 0 ? expected.reduce((sum, one) => sum + one, 0) : undefined;
}

/** @param others names of types that may have no counts */
function mergeTypes(old: TypeStatuses, counts: readonly TypeCount[], others: readonly string[] = []): TypeStatuses {
  const byType = new Map(counts.map((count) => [count.type, count]));
  const names = [...new Set([...old.map(({ type }) => type), ...byType.keys(), ...others])].slice(0, maxTypes);
  return names.map((type) => {
    const before = old.find((one) => one.type === type);
    const now = byType.get(type);
    const exported = Math.max(before?.exported ?? 0, now?.resources ?? 0);
    return {
      ...before,
      type,
      state: exported > 0 ? "Running" : (before?.state ?? "Pending"),
      exported,
      files: Math.max(before?.files ?? 0, now?.files ?? 0),
      errors: Math.max(before?.errors ?? 0, now?.errors ?? 0),
    };
  });
}

/** Resources per second: half the old speed and half that of the last interval. That is steady enough for an estimate,
 *  and follows a source that slows down. */
function speedOf(
  old: number | undefined,
  sample: { time: string; resources: number },
  resources: number,
  now: Date,
): number | undefined {
  const seconds = secondsSince(sample.time, now);
  if (seconds <= 0) return old;
  const latest = (resources - sample.resources) / seconds;
  return Math.round(old === undefined ? latest : (old + latest) / 2);
}
