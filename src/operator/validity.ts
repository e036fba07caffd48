import { setCondition } from "../api/conditions.ts";
import type { ExportTarget, ExportTargetStatus } from "../api/exporttarget.gen.ts";
import type { FhirSource, FhirSourceStatus } from "../api/fhirsource.gen.ts";
import { type Rule, sourceRules, targetRules } from "../api/rules.ts";

/** A source's own validity: what the CRD's rules say (again, since an object may be older than a rule). Whether the server answers is seen
 *  by the workers. */
export const checkSource = (source: FhirSource, now: Date): FhirSourceStatus =>
  withReady(source, problems(source, sourceRules), now);

/** The same of a target. */
export const checkTarget = (target: ExportTarget, now: Date): ExportTargetStatus =>
  withReady(target, problems(target, targetRules), now);

const problems = <Kind>(object: Kind, rules: Rule<Kind>[]) =>
  rules.filter((rule) => !rule.holds(object, undefined)).map(({ message }) => message);

function withReady<Kind extends FhirSource | ExportTarget>(
  object: Kind,
  found: string[],
  now: Date,
): FhirSourceStatus & ExportTargetStatus {
  const generation = object.metadata.generation ?? 0;
  const ready =
    found.length === 0
      ? ({
          type: "Ready",
          status: "True",
          reason: "Valid",
          message: "its fields make sense; it was not contacted",
        } as const)
      : ({ type: "Ready", status: "False", reason: "Invalid", message: found.join("; ") } as const);
  return {
    ...object.status,
    observedGeneration: generation,
    conditions: setCondition(object.status?.conditions, ready, generation, now),
  };
}
