import type { FhirExportStatus } from "../api/fhirexport.gen.ts";
import { annotations, finalizer, taskName } from "../api/names.ts";
import type { Command } from "../contracts.ts";
import type { Effect, RunView } from "../effects.ts";
import type { Logger } from "../log.ts";
import { countRunning } from "../operator/admit.ts";
import { formatOutcome } from "../operator/outcome.ts";
import type { ExportWorld, Port } from "../operator/port.ts";
import type { Folders } from "./folders.ts";
import type { Objects } from "./objects.ts";
import type { Runs } from "./runs.ts";

/** The Port of one machine: objects in SQLite, runs as child processes. A key is the name of an export. */
export class LocalPort implements Port {
  readonly #objects: Objects;
  readonly #runs: Runs;
  readonly #folders: Folders;
  readonly #log: Logger;

  constructor(objects: Objects, runs: Runs, folders: Folders, log: Logger) {
    this.#objects = objects;
    this.#runs = runs;
    this.#folders = folders;
    this.#log = log;
  }

  async gather(name: string): Promise<ExportWorld | undefined> {
    const object = this.#objects.get("FhirExport", name);
    if (!object) return undefined;
    const views = await Promise.all(this.#runs.owned(object.metadata.uid!).map((run) => this.#runs.view(run)));
    const source = this.#objects.get("FhirSource", object.spec.sourceRef.name);
    const target = this.#objects.get("ExportTarget", object.spec.targetRef.name);
    return {
      // The workers were asked meanwhile, and the object may have changed.
      export: this.#objects.get("FhirExport", name) ?? object,
      ...(source && { source }),
      ...(target && { target }),
      runs: runPerCommand(views),
      running: countRunning(object, this.#objects.list("FhirExport")),
    };
  }

  async apply(world: ExportWorld, effect: Effect): Promise<void> {
    const { metadata, status } = world.export;
    const { name, uid = "" } = metadata;
    switch (effect.do) {
      case "ensureRun": {
        const task = taskName(metadata, effect.run.attempt);
        // The Task goes with the first run of an attempt. status.run is there, as it is written when the export is
        // admitted.
        if (effect.run.task && status?.run) this.#folders.layOut(task, effect.run.task, status.run);
        return this.#runs.ensure(effect.run, { uid, name }, this.#folders.attempt(task));
      }
      case "setRun":
        return this.#runs.set(effect.uid, effect);
      case "deleteRun":
        return this.#runs.remove(effect.uid);
      case "outcome":
        world.export = this.#objects.update(
          "FhirExport",
          name,
          (object) => {
            object.metadata.annotations = {
              ...object.metadata.annotations,
              [annotations.outcome]: formatOutcome(effect),
            };
          },
          metadata.resourceVersion,
        );
        return;
      case "finalizer":
        world.export = this.#objects.update(
          "FhirExport",
          name,
          (object) => {
            const others = (object.metadata.finalizers ?? []).filter((one) => one !== finalizer);
            object.metadata.finalizers = effect.on ? [...others, finalizer] : others;
          },
          metadata.resourceVersion,
        );
        return;
      case "event":
        this.#log[effect.warning ? "warn" : "info"]({ export: name, reason: effect.reason }, effect.note);
        return;
      case "deleteExport":
        return this.#objects.delete("FhirExport", name);
    }
  }

  async writeStatus(world: ExportWorld, status: FhirExportStatus): Promise<void> {
    // The object is gone if its last finalizer was removed by the effects before.
    if (!this.#objects.get("FhirExport", world.export.metadata.name)) return;
    world.export = this.#objects.updateStatus("FhirExport", world.export, status);
  }

  /** Removes the runs of exports that are gone, and the folders with their Tasks. */
  async collect(): Promise<void> {
    const uids = new Set(this.#objects.list("FhirExport").map(({ metadata }) => metadata.uid));
    for (const run of this.#runs.all()) if (!uids.has(run.owner.uid)) await this.#runs.remove(run.uid);
    // The exports are listed again, as new ones may have been made meanwhile.
    const kept = this.#objects.list("FhirExport").map(({ metadata }) => taskName(metadata, 0).replace(/0$/, ""));
    for (const folder of this.#folders.attempts())
      if (!kept.some((stem) => folder.startsWith(stem))) this.#folders.removeAttempt(folder);
  }
}

/** One run per command: that of the latest attempt, unless an earlier one still has processes. */
function runPerCommand(views: (RunView & { command: Command })[]): Partial<Record<Command, RunView>> {
  const rank = (view: RunView) => (view.live > 0 ? 1e6 : 0) + view.attempt;
  const found: Partial<Record<Command, RunView>> = {};
  for (const view of views.sort((a, b) => rank(a) - rank(b))) found[view.command] = view;
  return found;
}
