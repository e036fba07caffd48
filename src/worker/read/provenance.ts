import type { Task } from "../../contracts.ts";
import { type CompartmentRows, type InCompartment, type PatientSet, valuesAt } from "../../fhir/compartment.ts";
import type { Referred } from "../../fhir/references.ts";
import type { PageTable } from "../../scan/table.ts";
import type { ExportRun } from "../run.ts";
import { parseResource } from "./owner.ts";

// A Provenance is about other resources, and of them only the patients put it into a compartment. The Bulk Data IG
// wants those of all resources that are exported. So at Patient and Group level it is read when all other types are
// closed, and its targets are looked up in what was written.

/** Whether the shards of a type are read by the seal, behind all other types. */
export const isReadLast = ({ level }: Pick<Task["export"], "level">, type: string): boolean =>
  level !== "System" && type === "Provenance";

/** Whether a Provenance that is in no compartment belongs to the export: one of its targets is exported. Pure.
 *  @param targets what its targets refer to
 *  @param isExported whether a resource is a line of the output */
export function byTargets(
  targets: readonly Referred[],
  isExported: (type: string, id: string) => boolean,
): InCompartment | "left" {
  let found: InCompartment | "left" = "out";
  for (const target of targets) {
    if (target === "none") continue;
    if ("unclear" in target) found = "left";
    else if (isExported(target.type, target.id)) return "in";
  }
  return found;
}

/** Decides on the rows of Provenance.
 *  @param patients the members of the export; undefined: everybody is */
export function provenanceJudge(
  compartment: CompartmentRows,
  { compartment: { names }, exported }: ExportRun,
  patients: PatientSet | undefined,
): (table: PageTable, row: number) => InCompartment | "left" {
  return (table, row) => {
    if (compartment.has(table, row, patients) === "in") return "in";
    const targets = valuesAt(parseResource(table.resource(row)), ["target"]);
    return byTargets(
      targets.map((target) => names.read(target)),
      (type, id) => exported!.has(type, id),
    );
  };
}
