import { same } from "../api/rules.ts";
import { FailureError } from "../failure.ts";
import { holdsSlot } from "./admit.ts";
import { type Decision, decide } from "./decide.ts";
import { outcomeOf } from "./outcome.ts";
import type { ExportWorld, Port } from "./port.ts";
import type { Settings } from "./settings.ts";

/** Brings one export one step on. `requeueAfter` in seconds: 0 = at once, absent = when something changes. A failure that may pass throws. */
export type Reconcile = (key: string) => Promise<{ requeueAfter?: number }>;

/** gather -> decide -> apply, generic over the place (DESIGN section 5 and 10). */
export function createReconcile(port: Port, settings: Settings, now: () => Date = () => new Date()): Reconcile {
  // Admission is serial: each sees what the one before it has written. Exports that hold a slot already, or have ended, need not wait for it.
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

  /** A run that cannot be made is a fact like others, to be shown and dealt with: decided once more with it. */
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
