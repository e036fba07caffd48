import { same } from "../api/rules.ts";
import { FailureError } from "../failure.ts";
import { holdsSlot } from "./admit.ts";
import { type Decision, decide } from "./decide.ts";
import { outcomeOf } from "./outcome.ts";
import type { ExportWorld, Port } from "./port.ts";
import type { Settings } from "./settings.ts";

/** Brings one export one step further. It throws a failure that may pass.
 *  @param key as the place names an export: `namespace/name`, in standalone the name
 *  @returns seconds after which it is to be called again: 0 = at once, absent = when something changes */
export type Reconcile = (key: string) => Promise<{ requeueAfter?: number }>;

/** gather -> decide -> apply, for whichever place (see docs/internals/controller.md):
 *
 *  1. The port gathers the world of the export.
 *  2. `decide` makes the status and the effects of it.
 *  3. The port applies the effects in their order. A run that cannot be made is decided about once more.
 *  4. The status is written, once, if it has changed. */
export function createReconcile(port: Port, settings: Settings, now: () => Date = () => new Date()): Reconcile {
  // Exports are admitted one after another, so that each sees what the one before it has written. Exports that hold a
  // slot or are complete need not wait for that.
  let admission: Promise<unknown> = Promise.resolve();

  return async (key) => {
    const world = await port.gather(key);
    if (!world) return {};
    if (holdsSlot(world.export) || outcomeOf(world.export)?.value === "Complete") return step(world);
    const turn = admission.then(async () => {
      const fresh = await port.gather(key);
      return fresh ? step(fresh) : {};
    });
    admission = turn.catch(() => undefined);
    return turn;
  };

  async function step(world: ExportWorld): Promise<{ requeueAfter?: number }> {
    const before = world.export.status;
    const decision = await applyAll(world, decide(world, now(), settings));
    if (!same(before ?? {}, decision.status)) await port.writeStatus(world, decision.status);
    return decision.requeueAfter === undefined ? {} : { requeueAfter: decision.requeueAfter };
  }

  /** Applies the effects in their order. Where a run cannot be made, `decide` is asked once more, with the failure as a
   *  fact that it shows and acts on.
   *  @returns the decision that was applied */
  async function applyAll(world: ExportWorld, decision: Decision): Promise<Decision> {
    for (const effect of decision.effects) {
      try {
        await port.apply(world, effect);
      } catch (error) {
        if (effect.do !== "ensureRun" || !(error instanceof FailureError) || error.class === "transient") throw error;
        const second = decide(world, now(), settings, error);
        for (const another of second.effects) if (another.do !== "ensureRun") await port.apply(world, another);
        return second;
      }
    }
    return decision;
  }
}
