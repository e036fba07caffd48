import type { Cohort } from "../../contracts.ts";
import { type Compartment, isUnclear, PatientSet } from "../../fhir/compartment.ts";
import { ScanError } from "../../scan/page.ts";
import type { PageTable } from "../../scan/table.ts";

/** A cohort to look things up in, made once for all shards. */
export interface Members {
  set: PatientSet;
  /** index in Cohort.patients */
  places: ReadonlyMap<string, number>;
}

/** The members that one shard searches by: those whose places are [from, to). */
export interface OwnMembers {
  places: Members["places"];
  from: number;
  to: number;
}

const memo = new WeakMap<Cohort, Members>();

export function membersIn(cohort: Cohort): Members {
  let made = memo.get(cohort);
  if (!made) {
    const { patients } = cohort;
    memo.set(
      cohort,
      (made = { set: new PatientSet(patients), places: new Map(patients.map((id, place) => [id, place])) }),
    );
  }
  return made;
}

/** Whose a row is that was found by members of the cohort (DESIGN section 7): of the members in whose compartment it is, the lowest has it, so that each
 *  resource is written by one shard. `foreign`: another shard has it, or it refers to patients in a way that only its server understands, which has found
 *  it for a member all the same. `pass`: it refers to others than members.
 *  @throws ScanError when it is not JSON */
export function ownerOf(
  table: PageTable,
  row: number,
  compartment: Compartment,
  { places, from, to }: OwnMembers,
): "line" | "foreign" | "pass" {
  let lowest = Number.POSITIVE_INFINITY;
  for (const id of compartment.patientsIn(table, row))
    lowest = Math.min(lowest, places.get(id) ?? Number.POSITIVE_INFINITY);
  if (lowest >= from && lowest < to) return "line";
  return lowest < Number.POSITIVE_INFINITY || isUnclear(parse(table.resource(row)), compartment.base)
    ? "foreign"
    : "pass";
}

function parse(resource: Buffer): Record<string, unknown> {
  try {
    return JSON.parse(resource.toString()) as Record<string, unknown>;
  } catch {
    // its own message would show content
    throw new ScanError("syntax", "a resource of the page is not JSON");
  }
}
