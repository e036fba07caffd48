import { setCondition } from "../api/conditions.ts";
import type { ExportTarget, ExportTargetStatus } from "../api/exporttarget.gen.ts";
import type { FhirSource, FhirSourceStatus } from "../api/fhirsource.gen.ts";
import { type Rule, sourceRules, targetRules } from "../api/rules.ts";

/** The status of a FhirSource by the rules of its CRD, which the API server checks, too, but not for an object that is
 *  older than a rule. Whether the server answers is seen by the workers. */
export const checkSource = (source: FhirSource, now: Date): FhirSourceStatus =>
  withReady(source, brokenRules(source, sourceRules), now);

/** The status of an ExportTarget by the rules of its CRD. */
export const checkTarget = (target: ExportTarget, now: Date): ExportTargetStatus =>
  withReady(target, brokenRules(target, targetRules), now);

/** The messages of the rules that the object breaks. */
const brokenRules = <Kind>(object: Kind, rules: Rule<Kind>[]) =>
  rules.filter((rule) => !rule.holds(object, undefined)).map(({ message }) => message);

function withReady<Kind extends FhirSource | ExportTarget>(
  object: Kind,
  broken: string[],
  now: Date,
): FhirSourceStatus & ExportTargetStatus {
  const generation = object.metadata.generation ?? 0;
  const ready =
    broken.length === 0
      ? ({
          type: "Ready",
          status: "True",
          reason: "Valid",
          message: "its fields are valid; whether it answers is seen by the first export",
        } as const)
      : ({ type: "Ready", status: "False", reason: "Invalid", message: broken.join("; ") } as const);
  return {
    ...object.status,
    observedGeneration: generation,
    conditions: setCondition(object.status?.conditions, ready, generation, now),
  };
}
