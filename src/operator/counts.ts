import { toSeconds } from "../api/conditions.ts";
import type { FhirExportStatus } from "../api/fhirexport.gen.ts";
import type { Report, RunView, Totals, TypeCount } from "../contracts.ts";
import { secondsSince } from "./accept.ts";
import type { Facts } from "./facts.ts";

type Types = NonNullable<FhirExportStatus["types"]>;
const atMostTypes = 200;

/** What the plan reported, in the status: the frozen moment, what is expected of each type. */
export function showPlan(status: FhirExportStatus, report: Report): Partial<FhirExportStatus> {
  const planned = (report.types ?? []).slice(0, atMostTypes);
  const before = new Map((status.types ?? []).map((one) => [one.type, one]));
  const types: Types = planned.map(({ type, expected }) => ({
    state: "Pending",
    ...before.get(type),
    type,
    ...(expected === undefined ? {} : { expected }),
  }));
  const counted = planned.filter(({ expected }) => expected !== undefined);
  const expected = report.totals?.resources || counted.reduce((sum, one) => sum + (one.expected ?? 0), 0);
  return {
    ...(report.transactionTime ? { transactionTime: report.transactionTime } : {}),
    ...(types.length > 0 ? { types } : {}),
    progress: {
      percent: 0,
      resources: 0,
      bytes: 0,
      ...status.progress,
      ...(counted.length > 0 || expected > 0 ? { expectedResources: expected } : {}),
    },
  };
}

/** Progress as the pods tell it, at most every `progressSeconds`: each publication is a status write. What was published never goes down. */
export function showProgress(facts: Facts, run: RunView): Partial<FhirExportStatus> {
  const { status, now, settings } = facts;
  const sample = status.run?.sample;
  if (!status.run) return {};
  if (!sample) return { run: { ...status.run, sample: beginSample(facts) } };
  if (secondsSince(sample.time, now) < settings.progressSeconds) return {};
  const seen = add(run);
  const old = status.progress ?? {};
  const resources = Math.max(old.resources ?? 0, seen.totals.resources);
  const time = toSeconds(now);
  const speed = speedOf(old.resourcesPerSecond, sample, resources, now);
  // an export in the plan's pod has no report yet that says it
  const expected = old.expectedResources ?? expectedBy(run);
  const left = expected === undefined ? undefined : Math.max(0, expected - resources);
  const eta = left !== undefined && speed ? toSeconds(new Date(now.getTime() + (left / speed) * 1000)) : undefined;
  const { estimatedCompletionTime: _, ...rest } = old;
  return {
    run: { ...status.run, sample: { time, resources } },
    progress: {
      ...rest,
      ...(expected === undefined ? {} : { expectedResources: expected }),
      percent: Math.max(old.percent ?? 0, Math.min(99, expected ? Math.floor((resources * 100) / expected) : 0)),
      resources,
      bytes: Math.max(old.bytes ?? 0, seen.totals.bytes),
      ...(speed === undefined ? {} : { resourcesPerSecond: speed }),
      ...(eta ? { estimatedCompletionTime: eta } : {}),
    },
    ...(status.types || seen.types.size > 0 ? { types: mergeTypes(status.types ?? [], seen.types) } : {}),
  };
}

/** From when on and where the speed is measured. */
export const beginSample = ({ status, now }: Facts) => ({
  time: toSeconds(now),
  resources: status.progress?.resources ?? 0,
});

/** The seal's totals, which are the truth. */
export function showTotals(status: FhirExportStatus, report: Report): Partial<FhirExportStatus> {
  const { totals } = report;
  const { estimatedCompletionTime: _, resourcesPerSecond: __, ...progress } = status.progress ?? {};
  const told = new Map((report.types ?? []).map((one) => [one.type, one]));
  const types = mergeTypes(status.types ?? [], told).map((one) => ({ ...one, state: "Complete" as const }));
  return {
    ...(report.transactionTime ? { transactionTime: report.transactionTime } : {}),
    progress: { ...progress, percent: 100, ...(totals ? { resources: totals.resources, bytes: totals.bytes } : {}) },
    ...(types.length > 0 ? { types } : {}),
    output: {
      ...status.output,
      ...(report.manifestSHA256 ? { manifestSHA256: report.manifestSHA256 } : {}),
      ...(totals
        ? { files: totals.files, resources: totals.resources, bytes: totals.bytes, errors: totals.errors }
        : {}),
    },
  };
}

/** All indexes together: an index that is done has a report, one at work a progress. */
function add(run: RunView): { totals: Totals; types: Map<string, TypeCount> } {
  const totals: Totals = { files: 0, resources: 0, bytes: 0, errors: 0 };
  const types = new Map<string, TypeCount>();
  const atWork = new Map(run.progress.map((one) => [one.index, one]));
  const indexes = new Set([...run.reports.keys(), ...atWork.keys()]);
  for (const index of indexes) {
    const report = run.reports[index];
    const told =
      report && !report.error && report.totals
        ? { totals: report.totals, types: report.types ?? [] }
        : atWork.get(index);
    if (!told) continue;
    addTotals(totals, told.totals);
    for (const one of told.types) {
      const sum = types.get(one.type) ?? { type: one.type, files: 0, resources: 0, bytes: 0, errors: 0 };
      addTotals(sum, one);
      types.set(one.type, sum);
    }
  }
  return { totals, types };
}

/** as its worker knows it from the plan */
function expectedBy({ progress }: RunView): number | undefined {
  const told = progress.flatMap(({ types }) => types.flatMap(({ expected }) => expected ?? []));
  return told.length > 0 ? told.reduce((sum, one) => sum + one, 0) : undefined;
}

function addTotals(sum: Totals, more: Totals): void {
  for (const key of ["files", "resources", "bytes", "errors"] as const) sum[key] += more[key];
}

function mergeTypes(old: Types, told: Map<string, TypeCount>): Types {
  const names = [...new Set([...old.map(({ type }) => type), ...told.keys()])].slice(0, atMostTypes);
  return names.map((type) => {
    const before = old.find((one) => one.type === type);
    const now = told.get(type);
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

/** Half the old speed, half that of the last interval: steady enough for an estimate, quick enough to follow a source that slows down. */
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
