import type { Plan, Shard } from "../../contracts.ts";
import { terminal } from "../../failure.ts";
import { CompartmentRows } from "../../fhir/compartment.ts";
import { cutResource, wantedElements } from "../../fhir/elements.ts";
import { ScanError } from "../../scan/page.ts";
import type { PageTable } from "../../scan/table.ts";
import { outcomeLine } from "../operation-outcome.ts";
import { type ExportRun, exportEnd } from "../run.ts";
import { instantOf, isEarlier } from "./instants.ts";
import { membersIn, type RowOwner, rowOwner } from "./owner.ts";
import { provenanceJudge } from "./provenance.ts";
import { isWindowed, windowOf } from "./searches.ts";
import { askerOf } from "./unclear.ts";

/** What becomes of a row of a shard's pages (docs/internals/exactness.md, "Every row gets a verdict"):
 *  - `line`: it is a line of the output.
 *  - `pass`: it is not for the output, but the source shows and counts it in the shard.
 *  - `outside`: it is newer than the export, or not of the window that the shard is counted in.
 *  - `skip`: it is no data at all.
 *  - `told`: it cannot be exported, and an earlier reading has reported that.
 *  - `foreign`: another shard may have to write it, which is decided when all shards of the type are there.
 *  - `unclear`: only the source can tell whether it is in a compartment of the export; RowSelector.ask asks it.
 *  - `left`: nobody can tell. It is left out, and told.
 *  - an object: it cannot be exported, and this OperationOutcome says why. */
export type RowVerdict = RowOwner | "outside" | "skip" | "unclear" | "left" | "told" | RowFault;

/** What is written instead of a row. */
export interface RowFault {
  /** the OperationOutcome, as a line */
  outcome: string;
  /** How many resources it stands for. 0: it is only to be read, and nothing is missing. */
  errors: number;
  /** The source may have counted the row among the matches of the search. */
  isMatch: boolean;
}

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
  /** takes what the user should know of rows that are exported all the same, each sentence once */
  notices?: Set<string>;
  /** makes the line of a resource, if only some elements are wanted. undefined: the resource is the line */
  cut?: (resource: Buffer) => Buffer;
}

/** @param till the instant that lines are older than; later than the export's end where what is newer is wanted as
 *  well */
export function rowSelector(run: ExportRun, shard: Shard, till: string = exportEnd(run)): RowSelector {
  const { work, plan, compartment } = run;
  const { type } = shard;
  const since = sinceOf(run);
  const beside = besideWindow(plan, shard);
  const byTime = timeVerdict(run, shard, till);
  const wanted = wantedElements(type, work.task.export.elements ?? [], compartment.release);
  const isInLevel = levelOf(run, shard);
  const wrong = wrongRow(run, shard);
  const told = toldOutcome(run, shard);
  const notices = new Set<string>();
  const timeOf = usableTime(run, shard, notices);
  return {
    notices,
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
      if (isOutcome(table, row)) return told(table, row);
      const lastUpdated = timeOf(table.lastUpdated(row));
      // Nobody can say that a resource without lastUpdated is newer or older: it is exported.
      const otherTime = lastUpdated === undefined ? undefined : byTime(lastUpdated);
      return otherTime ?? (isInLevel ? isInLevel(table, row) : "line");
    },
  };
}

/** Decides on a resource by when it was written; undefined: it is of the time that lines are of. */
function timeVerdict(run: ExportRun, shard: Shard, till: string): (lastUpdated: string) => RowVerdict | undefined {
  const { plan } = run;
  const since = sinceOf(run);
  // All that is read where the source has no history is newer than transactionTime: no window is compared then.
  const window = till === exportEnd(run) ? windowOf(plan, shard) : undefined;
  const end = new Date(Date.parse(plan.transactionTime) + 1).toISOString();
  const beside = besideWindow(plan, shard);
  return (lastUpdated) => {
    // A page that the server has kept lists what was in the window then, as it is now. The version as of
    // transactionTime comes with the tail.
    if (!isEarlier(lastUpdated, till)) return isEarlier(lastUpdated, end) ? beside : "outside";
    if (since !== undefined && isEarlier(lastUpdated, since)) return beside;
    // It should have been shown by the search of another window.
    return window && !isWithin(window, lastUpdated) ? "foreign" : undefined;
  };
}

/** What is not of a window that only we keep is not in its count either. */
const besideWindow = (plan: Plan, shard: Shard): "outside" | "pass" =>
  !isWindowed(plan, shard) && shard.expected !== undefined ? "outside" : "pass";

/** Why a row is not a resource of the type: it is no data ("skip"), or it is something wrong. undefined: it is one. */
function faultOf(table: PageTable, row: number, type: string): "skip" | { what: string } | undefined {
  const mode = table.mode(row);
  if (mode === "include") return "skip";
  const found = table.type(row);
  if (isOutcome(table, row)) return undefined;
  if (mode === "outcome") return "skip";
  if (found === type) return table.id(row) === "" ? { what: "a resource without an id" } : undefined;
  const isType = /^[A-Z][A-Za-z]{1,63}$/.test(found);
  return { what: isType ? `a resource of type ${found}` : "something that is no resource" };
}

/** The same for a shard that is read a second time: its wrong rows were reported by the first reading. */
export const withoutErrors = ({ notices: _, ...select }: RowSelector): RowSelector => ({
  ...select,
  any(table, row) {
    const verdict = select.any(table, row);
    return typeof verdict !== "object" ? verdict : verdict.isMatch ? "told" : "skip";
  },
});

/** Whether the row is no data, but what the source has to say about the search (FHIR R4, search.html#errors). In a
 *  search of OperationOutcomes, which nobody exports, it could be either. */
const isOutcome = (table: PageTable, row: number): boolean => table.type(row) === "OperationOutcome";

/** An issue of an OperationOutcome. */
interface SentIssue {
  severity?: unknown;
  code?: unknown;
}
/** A longer OperationOutcome is described instead of repeated. */
const maxOutcomeBytes = 10_000;

/** The verdict on an OperationOutcome of the source. One of severity error or fatal, or of code incomplete, says that
 *  something is missing on the page. A warning is to be read. Other ones are left out. */
function toldOutcome({ work }: ExportRun, { type }: Shard): (table: PageTable, row: number) => RowVerdict {
  return (table, row) => {
    const { issue } = parseOutcome(table.resource(row));
    const issues = Array.isArray(issue) ? (issue as (SentIssue | null)[]) : [];
    const isLoss = issues.some(
      (one) => one?.severity === "error" || one?.severity === "fatal" || one?.code === "incomplete",
    );
    if (!isLoss && !issues.some((one) => one?.severity === "warning")) return "skip";
    if (isLoss && work.task.export.onResourceError === "Fail")
      throw terminal(
        "WrongResource",
        `the source answers a search of ${type} with an OperationOutcome that says that results are missing (onResourceError: Fail); see the log of the server`,
      );
    const line = JSON.stringify({ resourceType: "OperationOutcome", issue: issues });
    const text = `A search of ${type} was answered with an OperationOutcome that is too long to be repeated here.`;
    const outcome =
      line.length > maxOutcomeBytes ? outcomeLine(isLoss ? "error" : "warning", "incomplete", text) : line;
    return { outcome, errors: isLoss ? 1 : 0, isMatch: false };
  };
}

function parseOutcome(resource: Buffer): { issue?: unknown } {
  try {
    return JSON.parse(resource.toString()) as { issue?: unknown };
  } catch {
    // JSON.parse's own message would show content.
    throw new ScanError("syntax", "a resource of the page is not JSON");
  }
}

/** A stamp this much later than the source's clock is no time at which something was written. */
const futureMs = 60_000;

/** Whether something can have been written at an instant, by the source's clock.
 *  @param at in milliseconds; NaN where the source sends no instant */
export const isPast = ({ work, plan }: ExportRun, at: number): boolean =>
  at <= work.clock.now() + (plan.source.clockAheadMs ?? 0) + futureMs;

/** Gives the lastUpdated of a resource as far as it says when the resource was written. undefined: nobody can say that
 *  the resource is newer or older than the export. */
function usableTime(
  run: ExportRun,
  { type }: Shard,
  notices: Set<string>,
): (lastUpdated: string | undefined) => string | undefined {
  return (lastUpdated) => {
    if (lastUpdated === undefined || run.plan.source.stampsMove) return undefined;
    const at = instantOf(lastUpdated);
    if (Number.isNaN(at)) {
      notices.add(
        `Some resources of ${type} have a meta.lastUpdated that is no FHIR instant. They are exported, whenever they were written.`,
      );
      return undefined;
    }
    if (isPast(run, at)) return lastUpdated;
    notices.add(
      `Some resources of ${type} have a meta.lastUpdated in the future. They are exported, whenever they were written.`,
    );
    return undefined;
  };
}

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
    return { outcome: outcomeLine("error", "invalid", text), errors: 1, isMatch: true };
  };
}

/** @param lastUpdated as a server wrote it */
export const isWithin = ({ from, till }: Pick<Shard, "from" | "till">, lastUpdated: string): boolean =>
  isEarlier(lastUpdated, till) && (from === undefined || !isEarlier(lastUpdated, from));
