import type { Cohort } from "../../cohort.ts";
import { type CompartmentRows, PatientSet } from "../../fhir/compartment.ts";
import { ScanError } from "../../scan/page.ts";
import type { PageTable } from "../../scan/table.ts";

/** A cohort as the rows of pages are compared with it. */
export interface Members {
  set: PatientSet;
  /** id of a patient -> its index in Cohort.patients */
  places: ReadonlyMap<string, number>;
}

/** The members that one shard is searched by: those whose places are in [from, to). */
interface OwnMembers {
  places: Members["places"];
  from: number;
  to: number;
}

const membersByCohort = new WeakMap<Cohort, Members>();

/** Made once per cohort, for all shards. */
export function membersIn(cohort: Cohort): Members {
  let made = membersByCohort.get(cohort);
  if (!made) {
    const { patients } = cohort;
    made = { set: new PatientSet(patients), places: new Map(patients.map((id, place) => [id, place])) };
    membersByCohort.set(cohort, made);
  }
  return made;
}

/** Whose a row is, in a type that is searched by members of the cohort. */
export type RowOwner = "line" | "foreign" | "pass";

/** Tells whether a row of a shard is its own. A resource may be in the compartments of several members: the shard that
 *  has the lowest of them, in the order of the cohort, writes it, so that it comes out once.
 *  - `line`: the row is this shard's.
 *  - `foreign`: it is another shard's; or it refers to patients in a way that only its server understands, which has
 *  found it for a member all the same.
 *  - `pass`: it refers to patients who are no members.
 *  @throws ScanError when the row is not JSON */
export function rowOwner(
  table: PageTable,
  row: number,
  compartment: CompartmentRows,
  { places, from, to }: OwnMembers,
): RowOwner {
  const { ids, isUnclear } = compartment.patientsIn(table, row);
  let lowest = Number.POSITIVE_INFINITY;
  for (const id of ids) lowest = Math.min(lowest, places.get(id) ?? Number.POSITIVE_INFINITY);
  if (lowest >= from && lowest < to) return "line";
  return lowest < Number.POSITIVE_INFINITY || isUnclear ? "foreign" : "pass";
}

/** @throws ScanError where it is not JSON */
export function parseResource(resource: Buffer): Record<string, unknown> {
  try {
    return JSON.parse(resource.toString()) as Record<string, unknown>;
  } catch {
    // JSON.parse's own message would show content.
    throw new ScanError("syntax", "a resource of the page is not JSON");
  }
}
