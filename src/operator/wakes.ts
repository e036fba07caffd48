// Who wakes whom. Both places, the cluster (src/kube/operator.ts) and the machine (src/standalone/place.ts), queue an
// export again when
//
// 1. it changed or is gone: the place does this by the key;
// 2. a run of it changed (on Kubernetes a Job or a pod): the place knows the export by the run's label or owner;
// 3. another export gave up its slot or left the queue, so that those behind it may start;
// 4. its FhirSource or ExportTarget was made, changed or deleted.
//
// Rules 3 and 4 are here. A namespace that is being deleted needs no rule: Kubernetes marks each of its exports as
// being deleted, which is a change of the export (rule 1). What only time changes (deadlines, retries, expiration) is
// in a decision's `requeueAfter`.
import type { FhirExport } from "../api/fhirexport.gen.ts";
import { holdsSlot, waitsForSlot } from "./admit.ts";
import { outcomeOf } from "./outcome.ts";

/** What an export takes of its source: one of its slots, or it is queued for one. */
interface SourceUse {
  kind: "slot" | "queued";
  /** `namespace/name` of the FhirSource */
  source: string;
}

export type Wake =
  /** The export took `before` when it was last seen, and takes `now`; undefined = nothing. */
  | { kind: "export"; before: SourceUse | undefined; now: SourceUse | undefined }
  /** The object of this `namespace/name` was made, changed or deleted. */
  | { kind: "source" | "target"; key: string };

/** The exports that a change wakes, besides the changed export itself.
 *  @param exports all exports of the place
 *  @param maxExports the limit over all sources; undefined = none */
export function wokenBy(wake: Wake, exports: Iterable<FhirExport>, maxExports: number | undefined): FhirExport[] {
  const isWoken = matcherOf(wake, maxExports);
  return isWoken ? [...exports].filter(isWoken) : [];
}

function matcherOf(wake: Wake, maxExports: number | undefined): ((one: FhirExport) => boolean) | undefined {
  switch (wake.kind) {
    case "source":
      return (one) => !isFinal(one) && sourceKey(one) === wake.key;
    case "target":
      return (one) => !isFinal(one) && targetKey(one) === wake.key;
    case "export": {
      const { before, now } = wake;
      if (!before || !isLess(now, before)) return undefined;
      // a slot also counts against the limit over all sources; a queue is that of one source
      const everywhere = before.kind === "slot" && maxExports !== undefined;
      return (one) => waitsForSlot(one) && (everywhere || sourceKey(one) === before.source);
    }
  }
}

/** Whether something that others may wait for was given up. Whoever comes from the queue to a slot gives nothing up. */
const isLess = (now: SourceUse | undefined, before: SourceUse) =>
  now?.source !== before.source || (before.kind === "slot" && now.kind === "queued");

/** Complete and Cancelled exports read their source and target no more; a failed one may be retried. */
function isFinal(object: FhirExport): boolean {
  const outcome = outcomeOf(object);
  return outcome !== undefined && outcome.value !== "Failed";
}

const sourceKey = ({ metadata, spec }: FhirExport) => `${metadata.namespace ?? ""}/${spec.sourceRef.name}`;
const targetKey = ({ metadata, spec }: FhirExport) => `${metadata.namespace ?? ""}/${spec.targetRef.name}`;

function useOf(object: FhirExport | undefined): SourceUse | undefined {
  if (!object) return undefined;
  if (holdsSlot(object)) return { kind: "slot", source: sourceKey(object) };
  return waitsForSlot(object) ? { kind: "queued", source: sourceKey(object) } : undefined;
}

/** Remembers what each export took when it was last seen: a place is told what an object is now, not what it was. */
export class SourceUses {
  readonly #last = new Map<string, SourceUse>();

  /** Notes an export as it is now.
   *  @param object undefined = it is gone
   *  @returns the change, for wokenBy */
  note(key: string, object: FhirExport | undefined): Wake {
    const before = this.#last.get(key);
    const now = useOf(object);
    if (now) this.#last.set(key, now);
    else this.#last.delete(key);
    return { kind: "export", before, now };
  }
}
