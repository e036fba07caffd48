import type { Cohort, Plan, Shard, Task } from "../../contracts.ts";
import { terminal } from "../../failure.ts";
import { Compartment, membersOf } from "../../fhir/compartment.ts";
import { cutResource, wantedElements } from "../../fhir/elements.ts";
import { ScanError } from "../../scan/page.ts";
import type { PageTable } from "../../scan/table.ts";
import { outcomeLine } from "../operation-outcome.ts";
import type { Work } from "../work.ts";
import { membersIn, ownerOf } from "./owner.ts";
import { isWindowed, windowOf } from "./searches.ts";

/** a line, not for the output (`pass`: but of the shard's window; `outside`: nor of that), no data at all (`skip`), to be looked at when all shards of the type
 *  are there (`foreign`), or an error */
export type Verdict = "line" | "pass" | "outside" | "skip" | "foreign" | { outcome: string };

/** Decides of the entries of a shard's pages. */
export interface Select {
  /** top-level members of the resource that `plain` looks at */
  members: readonly string[];
  /** of rows that plainly are of the search (PageTable.plainRows); undefined: all of them are lines */
  plain?: (table: PageTable, row: number) => Verdict;
  /** of any row */
  any: (table: PageTable, row: number) => Verdict;
  /** what of a resource becomes the line; undefined: all */
  cut?: (resource: Buffer) => Buffer;
}

/** @param till what they are older than */
export function selector(
  { task, source }: Work,
  plan: Plan,
  shard: Shard,
  cohort: Cohort | undefined,
  till: string = endOf(plan, task),
): Select {
  const members = cohort && membersIn(cohort);
  const patients = members?.set;
  const own = shard.members && members && { places: members.places, from: shard.members[0], to: shard.members[1] };
  const groups = new Set(cohort?.groups);
  const { level, onResourceError } = task.export;
  const { type } = shard;
  const compartment = new Compartment(type, source.base);
  const since = task.export.since === undefined ? undefined : new Date(task.export.since).toISOString();
  const wrong = (what: string): Verdict => {
    if (onResourceError === "Fail")
      throw terminal(
        "WrongResource",
        `the source answers a search of ${type} with ${what}; it cannot be exported (onResourceError: Fail)`,
      );
    return {
      outcome: outcomeLine(
        "error",
        "invalid",
        `A search of ${type} from ${shard.from ?? "the beginning"} till ${shard.till} was answered with ${what}, which is left out.`,
      ),
    };
  };
  const inLevel = (table: PageTable, row: number): Verdict => {
    if (level === "System" || (level === "Patient" && type === "Patient" && !patients)) return "line";
    // other Groups of a member would tell who else is in them
    if (level === "Group" && type === "Group" && !groups.has(table.id(row))) return "pass";
    try {
      if (own) return ownerOf(table, row, compartment, own);
      return compartment.has(table, row, patients) ? "line" : "pass";
    } catch (error) {
      if (error instanceof ScanError) return wrong("a resource that is not JSON");
      throw error;
    }
  };
  // of a tail without history all is newer
  const window = till === endOf(plan, task) ? windowOf(plan, shard) : undefined;
  // a server that rounds in its index shows them in the window, and counts them there
  const beside = isWindowed(plan, shard) ? "pass" : "outside";
  const end = new Date(Date.parse(plan.transactionTime) + 1).toISOString();
  const wanted = wantedElements(type, task.export.elements ?? []);
  const isInLevel = level === "System" || (level === "Patient" && type === "Patient" && !patients);
  return {
    members: isInLevel ? [] : membersOf(type),
    ...(wanted && { cut: (resource: Buffer) => cutResource(resource, wanted) }),
    ...((!isInLevel || since !== undefined) && {
      plain: (table, row) => (since !== undefined && table.lastUpdated(row)! < since ? beside : inLevel(table, row)),
    }),
    any(table, row) {
      const mode = table.mode(row);
      const found = table.type(row);
      if (mode === "outcome" || mode === "include" || (found === "OperationOutcome" && type !== "OperationOutcome"))
        return "skip";
      if (found !== type)
        return wrong(
          /^[A-Z][A-Za-z]{1,63}$/.test(found) ? `a resource of type ${found}` : "something that is no resource",
        );
      if (table.id(row) === "") return wrong("a resource without an id");
      const lastUpdated = table.lastUpdated(row);
      // a page kept by the server lists what was in the window then, as it is now: its version as of transactionTime comes with the tail
      if (lastUpdated !== undefined && !isBefore(lastUpdated, till))
        return isBefore(lastUpdated, end) ? beside : "outside";
      // without lastUpdated it cannot be said to be older: it is exported
      if (since !== undefined && lastUpdated !== undefined && isBefore(lastUpdated, since)) return beside;
      // it should have been shown with another window
      if (window && lastUpdated !== undefined && !isWithin(window, lastUpdated)) return "foreign";
      return inLevel(table, row);
    },
  };
}

/** @param lastUpdated as a server wrote it */
export const isWithin = ({ from, till }: Pick<Shard, "from" | "till">, lastUpdated: string): boolean =>
  isBefore(lastUpdated, till) && (from === undefined || !isBefore(lastUpdated, from));

/** What the resources of an export are older than. The window of a shard says less: a server that rounds in its index shows some in the window beside
 *  theirs, and only there. */
export const endOf = (plan: Plan, { export: { until } }: Task): string =>
  new Date(
    Math.min(Date.parse(plan.transactionTime) + 1, until === undefined ? Number.POSITIVE_INFINITY : Date.parse(until)),
  ).toISOString();

/** @param text an instant as a server wrote it; most write it as we do
 *  @param bound with milliseconds and Z */
function isBefore(text: string, bound: string): boolean {
  if (text.length === bound.length && text.endsWith("Z") && text[19] === ".") return text < bound;
  return Date.parse(text) < Date.parse(bound);
}
