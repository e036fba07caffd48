import type { ExportTarget } from "../api/exporttarget.gen.ts";
import type { FhirExport, FhirExportRun, FhirExportSpec, FhirExportStatus } from "../api/fhirexport.gen.ts";
import type { FhirSource } from "../api/fhirsource.gen.ts";
import type { Command, Failure, ReadyReason } from "../contracts.ts";
import type { Effect, RunView } from "../effects.ts";
import type { Cause } from "./cause.ts";
import { attemptOf, type Outcome } from "./outcome.ts";
import type { ExportWorld } from "./port.ts";
import type { Settings } from "./settings.ts";

/** The world as the policies read it. It is made once per decision and never changed. */
export interface Facts {
  export: FhirExport;
  spec: FhirExportSpec;
  status: FhirExportStatus;
  source?: FhirSource;
  target?: ExportTarget;
  attempt: number;
  /** how this attempt ended; absent while it has not ended */
  outcome?: Outcome;
  /** what this attempt was started with; absent until it is admitted */
  run?: FhirExportRun;
  /** the runs of this attempt */
  runs: Partial<Record<Command, RunView>>;
  /** the runs of all attempts */
  allRuns: readonly RunView[];
  running: ExportWorld["running"];
  /** the namespace is being deleted */
  closing: boolean;
  now: Date;
  settings: Settings;
  /** why the last effect could not be applied */
  effectFailure?: Failure;
}

/** What a policy decides: the attempt ends, or the export is in a state on its way there. */
export type PolicyResult = AttemptEnd | ExportStep;

export interface AttemptEnd {
  kind: "end";
  outcome: Outcome["value"];
  reason: string;
  message: string;
  /** The request itself is wrong: the export is shown as Refused. */
  refused?: boolean;
  status?: Partial<FhirExportStatus>;
  effects?: Effect[];
}

export interface ExportStep {
  kind: "step";
  state: ReadyReason;
  /** with the cause */
  message: string;
  /** why it does not get on; absent: nothing is known to hold it */
  cause?: Cause;
  /** changes of the status besides the conditions */
  status?: Partial<FhirExportStatus>;
  effects?: Effect[];
  /** seconds; 0 = at once */
  requeueAfter?: number;
}

/** @param effectFailure why the effects of the last decision could not be applied */
export function readFacts(world: ExportWorld, now: Date, settings: Settings, effectFailure?: Failure): Facts {
  const allRuns = Object.values(world.runs).filter((run) => run.ours);
  const { attempt, outcome } = attemptOf(world.export, allRuns);
  const status = world.export.status ?? {};
  return {
    export: world.export,
    spec: world.export.spec,
    status,
    ...(world.source ? { source: world.source } : {}),
    ...(world.target ? { target: world.target } : {}),
    attempt,
    ...(outcome ? { outcome } : {}),
    ...(status.run?.attempt === attempt ? { run: status.run } : {}),
    runs: Object.fromEntries(Object.entries(world.runs).filter(([, run]) => run.ours && run.attempt === attempt)),
    allRuns,
    running: world.running,
    closing: world.closing ?? false,
    now,
    settings,
    ...(effectFailure ? { effectFailure } : {}),
  };
}
