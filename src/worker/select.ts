import type { Cohort, Plan, Shard } from "../contracts.ts";
import { terminal } from "../failure.ts";
import { isInCompartment, membersOf, PatientSet } from "../fhir/compartment.ts";
import { ScanError } from "../scan/page.ts";
import type { PageTable } from "../scan/table.ts";
import { outcomeLine } from "./outcome.ts";
import type { Work } from "./task.ts";

/** a line, not for the output (`pass`: but of the window), no data at all (`skip`), or an error */
export type Verdict = "line" | "pass" | "skip" | { outcome: string };

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

export function selector({ task, source }: Work, plan: Plan, shard: Shard, cohort: Cohort | undefined): Select {
  const patients = cohort && new PatientSet(cohort.patients);
  const groups = new Set(cohort?.groups);
  const { level, onResourceError } = task.export;
  const { type } = shard;
  const from = shard.from === undefined ? undefined : Date.parse(shard.from);
  const [tillText, till] = [shard.till, Date.parse(shard.till)];
  const wrong = (what: string): Verdict => {
    if (onResourceError === "Fail")
      throw terminal("WrongResource", `the source answers a search of ${type} with ${what}; it cannot be exported (onResourceError: Fail)`);
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
      return isInCompartment(table, row, type, source.base, patients) ? "line" : "pass";
    } catch (error) {
      if (error instanceof ScanError) return wrong("a resource that is not JSON");
      throw error;
    }
  };
  const isInLevel = level === "System" || (level === "Patient" && type === "Patient" && !patients);
  const keepsFrom = !plan.source.windows && from !== undefined;
  return {
    members: isInLevel ? [] : membersOf(type),
    ...((!isInLevel || keepsFrom) && {
      plain: (table, row) => (keepsFrom && Date.parse(table.lastUpdated(row)!) < from ? "pass" : inLevel(table, row)),
    }),
    any(table, row) {
      const mode = table.mode(row);
      const found = table.type(row);
      if (mode === "outcome" || mode === "include" || (found === "OperationOutcome" && type !== "OperationOutcome")) return "skip";
      if (found !== type)
        return wrong(/^[A-Z][A-Za-z]{1,63}$/.test(found) ? `a resource of type ${found}` : "something that is no resource");
      if (table.id(row) === "") return wrong("a resource without an id");
      const lastUpdated = table.lastUpdated(row);
      // a page kept by the server lists what was in the window then, as it is now: its version as of transactionTime comes with the tail
      if (isAtLeast(lastUpdated, tillText, till)) return "skip";
      // without lastUpdated it cannot be said to be older: it is exported
      if (keepsFrom && Date.parse(lastUpdated ?? "") < from) return "pass";
      return inLevel(table, row);
    },
  };
}

/** Whether an instant as a server wrote it is not before `bound`. Most write it as we do: then no date needs to be parsed. */
function isAtLeast(text: string | undefined, boundText: string, bound: number): boolean {
  if (text === undefined) return false;
  if (text.length === boundText.length && text.endsWith("Z") && text[19] === ".") return text >= boundText;
  return Date.parse(text) >= bound;
}
