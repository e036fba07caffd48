import type { Shard } from "../../contracts.ts";
import { terminal } from "../../failure.ts";
import { CompartmentRows } from "../../fhir/compartment.ts";
import { cutResource, wantedElements } from "../../fhir/elements.ts";
import { ScanError } from "../../scan/page.ts";
import type { PageTable } from "../../scan/table.ts";
import { outcomeLine } from "../operation-outcome.ts";
import { type ExportRun, exportEnd } from "../run.ts";
import { membersIn, type RowOwner, rowOwner } from "./owner.ts";
import { provenanceJudge } from "./provenance.ts";
import { isWindowed, windowOf } from "./searches.ts";
import { askerOf } from "./unclear.ts";

/** What becomes of a row of a shard's pages (docs/internals/exactness.md, "Every row gets a verdict"):
 *  - `line`: it is a line of the output.
 *  - `pass`: it is of the shard's window, but not for the output.
 *  - `outside`: it is not of the shard's window either.
 *  - `skip`: it is no data at all.
 *  - `foreign`: another shard may have to write it, which is decided when all shards of the type are there.
 *  - `unclear`: only the source can tell whether it is in a compartment of the export; RowSelector.ask asks it.
 *  - `left`: nobody can tell. It is left out, and told.
 *  - an object: it cannot be exported, and this OperationOutcome says why. */
export type RowVerdict = RowOwner | "outside" | "skip" | "unclear" | "left" | { outcome: string };

/** Decides on the rows of a shard's pages. */
export interface RowSelector {
  /** the top-level members of a resource that `plain` looks at */
  members: readonly string[];
  /** of rows that plainly are of the search (PageTable.plainRows). undefined: all of them are lines */
  plain?: (table: PageTable, row: number) => RowVerdict;
  /** of any row */
  any: (table: PageTable, row: number) => RowVerdict;
  /** of a row that one of them finds unclear: "line", "pass" or "left" */
  ask?: (table: PageTable, row: number) => Promise<RowVerdict>;
  /** makes the line of a resource, if only some elements are wanted. undefined: the resource is the line */
  cut?: (resource: Buffer) => Buffer;
}

/** @param till the instant that lines are older than; later than the export's end where what is newer is wanted as
 *  well */
export function rowSelector(run: ExportRun, shard: Shard, till: string = exportEnd(run)): RowSelector {
  const { work, plan, compartment } = run;
  const { type } = shard;
  const since = sinceOf(run);
  // All that is read where the source has no history is newer than transactionTime: no window is compared then.
  const window = till === exportEnd(run) ? windowOf(plan, shard) : undefined;
  // A server that rounds times in its index shows such a resource in this window, and counts it there.
  const beside = isWindowed(plan, shard) ? "pass" : "outside";
  const end = new Date(Date.parse(plan.transactionTime) + 1).toISOString();
  const wanted = wantedElements(type, work.task.export.elements ?? [], compartment.release);
  const isInLevel = levelOf(run, shard);
  const wrong = wrongRow(run, shard);
  return {
    members: isInLevel ? compartment.membersOf(type) : [],
    ...(isInLevel && !shard.members && { ask: askerOf(run, type) }),
    ...(wanted && { cut: (resource: Buffer) => cutResource(resource, wanted) }),
    ...((isInLevel || since !== undefined) && {
      plain: (table, row) =>
        since !== undefined && table.lastUpdated(row)! < since ? beside : isInLevel ? isInLevel(table, row) : "line",
    }),
    any(table, row) {
      const fault = faultOf(table, row, type);
      if (fault !== undefined) return fault === "skip" ? fault : wrong(fault.what);
      const lastUpdated = table.lastUpdated(row);
      // Nobody can say that a resource without lastUpdated is newer or older: it is exported.
      if (lastUpdated !== undefined) {
        // A page that the server has kept lists what was in the window then, as it is now. The version as of
        // transactionTime comes with the tail.
        if (!isEarlier(lastUpdated, till)) return isEarlier(lastUpdated, end) ? beside : "outside";
        if (since !== undefined && isEarlier(lastUpdated, since)) return beside;
        // It should have been shown by the search of another window.
        if (window && !isWithin(window, lastUpdated)) return "foreign";
      }
      return isInLevel ? isInLevel(table, row) : "line";
    },
  };
}

/** Why a row is not a resource of the type: it is no data ("skip"), or it is something wrong. undefined: it is one. */
function faultOf(table: PageTable, row: number, type: string): "skip" | { what: string } | undefined {
  const mode = table.mode(row);
  if (mode === "outcome" || mode === "include") return "skip";
  const found = table.type(row);
  if (found === type) return table.id(row) === "" ? { what: "a resource without an id" } : undefined;
  if (found === "OperationOutcome") return "skip";
  const isType = /^[A-Z][A-Za-z]{1,63}$/.test(found);
  return { what: isType ? `a resource of type ${found}` : "something that is no resource" };
}

/** The same for a shard that is read a second time: its wrong rows were told by the first reading. */
export const withoutErrors = (select: RowSelector): RowSelector => ({
  ...select,
  any(table, row) {
    const verdict = select.any(table, row);
    return typeof verdict === "object" ? "skip" : verdict;
  },
});

const sinceOf = ({ work }: ExportRun): string | undefined => {
  const { since } = work.task.export;
  return since === undefined ? undefined : new Date(since).toISOString();
};

const verdicts = { in: "line", out: "pass", unclear: "unclear", left: "left" } as const;

/** Decides whether a resource is of the export's level. undefined: all of the type are. */
function levelOf(run: ExportRun, shard: Shard): ((table: PageTable, row: number) => RowVerdict) | undefined {
  const { work, cohort } = run;
  const { level } = work.task.export;
  const { type, members: range } = shard;
  const members = cohort && membersIn(cohort);
  if (level === "System" || (level === "Patient" && type === "Patient" && !members)) return undefined;
  const groups = level === "Group" && type === "Group" ? new Set(cohort?.groups) : undefined;
  const compartment = new CompartmentRows(type, run.compartment);
  const own = range && members && { places: members.places, from: range[0], to: range[1] };
  const wrong = wrongRow(run, shard);
  const judge =
    type === "Provenance" && run.exported
      ? provenanceJudge(compartment, run, members?.set)
      : (table: PageTable, row: number) => compartment.has(table, row, members?.set);
  return (table, row) => {
    // Other Groups of a member would tell who else is in them.
    if (groups && !groups.has(table.id(row))) return "pass";
    try {
      if (own) return rowOwner(table, row, compartment, own);
      return verdicts[judge(table, row)];
    } catch (error) {
      if (error instanceof ScanError) return wrong("a resource that is not JSON");
      throw error;
    }
  };
}

/** The verdict on an answer that is wrong. @returns throws terminal WrongResource where onResourceError is Fail */
function wrongRow({ work }: ExportRun, { type, from, till }: Shard): (what: string) => RowVerdict {
  return (what) => {
    if (work.task.export.onResourceError === "Fail")
      throw terminal(
        "WrongResource",
        `the source answers a search of ${type} with ${what}; it cannot be exported (onResourceError: Fail)`,
      );
    const text = `A search of ${type} from ${from ?? "the beginning"} till ${till} was answered with ${what}, which is left out.`;
    return { outcome: outcomeLine("error", "invalid", text) };
  };
}

/** @param lastUpdated as a server wrote it */
export const isWithin = ({ from, till }: Pick<Shard, "from" | "till">, lastUpdated: string): boolean =>
  isEarlier(lastUpdated, till) && (from === undefined || !isEarlier(lastUpdated, from));

/** @param text an instant as a server wrote it; most write it as we do
 *  @param bound with milliseconds and Z */
function isEarlier(text: string, bound: string): boolean {
  if (text.length === bound.length && text.endsWith("Z") && text[19] === ".") return text < bound;
  return Date.parse(text) < Date.parse(bound);
}
