import type { ExportTarget } from "../api/exporttarget.gen.ts";
import type { FhirExport, FhirExportRun, FhirExportSpec, FhirExportStatus } from "../api/fhirexport.gen.ts";
import type { FhirSource } from "../api/fhirsource.gen.ts";
import type { Command, Effect, Failure, ReadyReason, RunView } from "../contracts.ts";
import { attemptOf, type Outcome } from "./outcome.ts";
import type { ExportWorld } from "./port.ts";
import type { Settings } from "./settings.ts";

/** The world as the policies read it: gathered once, never changed. */
export interface Facts {
  export: FhirExport;
  spec: FhirExportSpec;
  status: FhirExportStatus;
  source?: FhirSource;
  target?: ExportTarget;
  attempt: number;
  /** set when this attempt has ended */
  outcome?: Outcome;
  /** what this attempt was started with; absent until it is admitted */
  run?: FhirExportRun;
  /** runs of this attempt */
  runs: Partial<Record<Command, RunView>>;
  /** runs of any attempt */
  all: readonly RunView[];
  running: ExportWorld["running"];
  closing: boolean;
  now: Date;
  settings: Settings;
  /** why the last effect could not be applied */
  failed?: Failure;
}

/** What a policy decides: the export ends, or it goes on in a state. */
export type Verdict = End | Step;
export interface End {
  end: Outcome["value"];
  reason: string;
  message: string;
  /** the request itself is wrong */
  refused?: boolean;
  status?: Partial<FhirExportStatus>;
  effects?: Effect[];
}
export interface Step {
  state: ReadyReason;
  message: string;
  status?: Partial<FhirExportStatus>;
  effects?: Effect[];
  /** seconds; 0 = at once */
  requeueAfter?: number;
}

export function readFacts(world: ExportWorld, now: Date, settings: Settings, failed?: Failure): Facts {
  const all = Object.values(world.runs).filter((run) => run.ours);
  const { attempt, outcome } = attemptOf(world.export, all);
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
    all,
    running: world.running,
    closing: world.closing ?? false,
    now,
    settings,
    ...(failed ? { failed } : {}),
  };
}
