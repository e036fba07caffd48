import assert from "node:assert/strict";
import { findCondition, isTrue } from "../../src/api/conditions.ts";
import type { FhirExport, FhirExportSpec, FhirExportStatus } from "../../src/api/fhirexport.gen.ts";
import type { Command } from "../../src/contracts.ts";
import type { Effect, RunView, World } from "../../src/effects.ts";
import { decide } from "../../src/operator/decide.ts";
import type { ExportWorld } from "../../src/operator/port.ts";
import { defaultSettings, type Settings } from "../../src/operator/settings.ts";
import { makeRun } from "../../src/operator/task.ts";
import { makeExport, makeSource, makeTarget, results, start } from "./fake.ts";

export const later = (seconds: number) => new Date(start.getTime() + seconds * 1000);
export const startTime = "2026-03-04T05:06:07Z";
export const runOf = (spec: Partial<FhirExportSpec> = {}, more: object = {}) => ({
  ...makeRun(
    { export: makeExport(spec), source: makeSource(), target: makeTarget() },
    { attempt: 1, startTime },
    defaultSettings,
  ),
  ...more,
});
/** An admitted export with some of its runs. */
export function world(
  given: {
    spec?: Partial<FhirExportSpec>;
    status?: FhirExportStatus;
    metadata?: Partial<FhirExport["metadata"]>;
    runs?: Partial<Record<Command, Partial<RunView>>>;
    source?: World<never, unknown, never>["source"] | null;
    target?: ReturnType<typeof makeTarget> | null;
    running?: Partial<ExportWorld["running"]>;
    closing?: true;
  } = {},
): ExportWorld {
  const object = makeExport(given.spec, given.status);
  Object.assign(object.metadata, given.metadata);
  const runs = Object.fromEntries(
    Object.entries(given.runs ?? {}).map(([command, run]): [string, RunView] => [
      command,
      {
        name: `x-0a1b2c3d-${command}-1`,
        uid: `uid-${command}`,
        ours: true,
        attempt: 1,
        state: "active",
        live: 1,
        done: 0,
        reports: [],
        progress: [],
        ...run,
      },
    ]),
  );
  return {
    export: object,
    ...(given.source === null ? {} : { source: (given.source as ReturnType<typeof makeSource>) ?? makeSource() }),
    ...(given.target === null ? {} : { target: given.target ?? makeTarget() }),
    runs,
    running: { source: 0, all: 0, ahead: 0, ...given.running },
    ...(given.closing ? { closing: true } : {}),
  };
}
export const admitted = (more: FhirExportStatus = {}): FhirExportStatus => ({
  attempt: 1,
  run: runOf(),
  output: outputOfX,
  startTime,
  ...more,
});
export const outputOfX = {
  container: "fhir",
  prefix: "20260304T050607-x-0a1b2c3d",
  manifest: "https://a.blob.core.windows.net/fhir/20260304T050607-x-0a1b2c3d/manifest.json",
};
export const doneRun = (command: Command): Partial<RunView> => ({
  state: "complete",
  live: 0,
  reports: [results[command]],
});
export const readyCondition = (status: FhirExportStatus) => findCondition(status.conditions, "Ready");
export const decideAt = (one: ExportWorld, now = later(1), settings: Partial<Settings> = {}) =>
  decide(one, now, { ...defaultSettings, ...settings });
/** An effect as one line. */
export function effectText(effect: Effect): string {
  switch (effect.do) {
    case "ensureRun":
      return `ensure ${effect.run.command}${effect.run.task ? " with task" : ""}`;
    case "setRun":
      return [
        `set ${effect.uid}`,
        ...(effect.suspend === undefined ? [] : [`suspend ${effect.suspend}`]),
        ...(effect.parallelism === undefined ? [] : [`parallelism ${effect.parallelism}`]),
        ...(effect.ttlSeconds === undefined ? [] : [`ttl ${effect.ttlSeconds}`]),
      ].join(" ");
    case "deleteRun":
      return `delete ${effect.uid}`;
    case "outcome":
      return `outcome ${effect.value}/${effect.attempt}`;
    case "finalizer":
      return `finalizer ${effect.on}`;
    default:
      return effect.do;
  }
}
export const effectsOf = (one: ExportWorld, ...more: [Date?, Partial<Settings>?]) =>
  decideAt(one, ...more)
    .effects.filter((effect) => effect.do !== "event")
    .map(effectText);

export interface DecisionRow {
  case: string;
  world: ExportWorld;
  now?: Date;
  reason: string;
  /** status of Ready, and the other conditions that are True */
  ready: "True" | "False" | "Unknown";
  holds: string[];
  message?: RegExp;
  effects?: string[];
  requeueAfter?: number;
}

/** Holds a decision to its row. */
export function checkDecision(row: DecisionRow): void {
  const { status, requeueAfter } = decideAt(row.world, row.now);
  const ready = readyCondition(status);
  const held = (status.conditions ?? [])
    .filter(({ type }) => type !== "Ready" && isTrue(status.conditions, type as "Ready"))
    .map(({ type }) => type);
  assert.deepEqual(
    { reason: ready?.reason, ready: ready?.status, holds: held.sort() },
    { reason: row.reason, ready: row.ready, holds: row.holds },
  );
  if (row.message) assert.match(ready?.message ?? "", row.message);
  if (row.effects) assert.deepEqual(effectsOf(row.world, row.now), row.effects);
  if (row.requeueAfter !== undefined) assert.equal(requeueAfter, row.requeueAfter);
  assert.equal(status.observedGeneration, 1);
  assert.ok(
    status.conditions!.every(
      ({ observedGeneration }) => observedGeneration === 1 || row.world.export.status?.conditions,
    ),
  );
  assert.ok(
    !(isTrue(status.conditions, "Reconciling") && isTrue(status.conditions, "Stalled")),
    "kstatus: one of both at most",
  );
}

/** Demands that the decisions change nothing that they are made from, and that a decision that was written down leads
 *  to no new one: else the operator would be woken by its own status for ever. */
export function checkStable(table: readonly DecisionRow[]): void {
  for (const { case: name, world: given, now } of table) {
    const copy = structuredClone(given);
    const first = decideAt(given, now);
    assert.deepEqual(given, copy, name);
    if (first.requeueAfter === 0) continue;
    const second = decideAt({ ...given, export: { ...given.export, status: first.status } }, now);
    assert.deepEqual(second.status, first.status, name);
    assert.deepEqual(
      second.effects.filter((effect) => effect.do === "event"),
      [],
      `${name}: there is no second event`,
    );
  }
}
