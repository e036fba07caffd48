import type { Cohort, Plan, Shard } from "../contracts.ts";
import { terminal } from "../failure.ts";
import { patientsOf } from "../fhir/compartment.ts";
import type { Entry } from "../scan/page.ts";
import { outcomeLine } from "./outcome.ts";
import type { Work } from "./task.ts";

type Verdict = "line" | "pass" | "skip" | { outcome: string };
export type Select = (bytes: Buffer, entry: Entry) => Verdict;

/** Decides of one entry: a line, not for the output (`pass`: but of the window), no data at all (`skip`), or an error. */
export function selector({ task, source }: Work, plan: Plan, shard: Shard, cohort: Cohort | undefined): Select {
  const patients = cohort && new Set(cohort.patients);
  const groups = new Set(cohort?.groups);
  const { level, onResourceError } = task.export;
  const from = shard.from === undefined ? undefined : Date.parse(shard.from);
  const [tillText, till] = [shard.till, Date.parse(shard.till)];
  const wrong = (what: string): Verdict => {
    if (onResourceError === "Fail")
      throw terminal(
        "WrongResource",
        `the source answers a search of ${shard.type} with ${what}; it cannot be exported (onResourceError: Fail)`,
      );
    return {
      outcome: outcomeLine(
        "error",
        "invalid",
        `A search of ${shard.type} from ${shard.from ?? "the beginning"} till ${shard.till} was answered with ${what}, which is left out.`,
      ),
    };
  };
  return (bytes, entry) => {
    if (entry.mode === "outcome" || entry.mode === "include" || (entry.type === "OperationOutcome" && shard.type !== "OperationOutcome"))
      return "skip";
    if (entry.type !== shard.type)
      return wrong(/^[A-Z][A-Za-z]{1,63}$/.test(entry.type) ? `a resource of type ${entry.type}` : "something that is no resource");
    if (entry.id === "") return wrong("a resource without an id");
    // a page kept by the server lists what was in the window then, as it is now: its version as of transactionTime comes with the tail
    if (isAtLeast(entry.lastUpdated, tillText, till)) return "skip";
    // without lastUpdated it cannot be said to be older: it is exported
    if (!plan.source.windows && from !== undefined && Date.parse(entry.lastUpdated ?? "") < from) return "pass";
    if (level === "System") return "line";
    // other Groups of a member would tell who else is in them
    if (level === "Group" && entry.type === "Group" && !groups.has(entry.id)) return "pass";
    if (level === "Patient" && entry.type === "Patient" && !patients) return "line";
    const resource = JSON.parse(bytes.toString("utf8", entry.start, entry.end)) as Record<string, unknown>;
    for (const id of patientsOf(resource, source.base)) if (!patients || patients.has(id)) return "line";
    return "pass";
  };
}

/** Whether an instant as a server wrote it is not before `bound`. Most write it as we do: then no date needs to be parsed. */
function isAtLeast(text: string | undefined, boundText: string, bound: number): boolean {
  if (text === undefined) return false;
  if (text.length === boundText.length && text.endsWith("Z") && text[19] === ".") return text >= boundText;
  return Date.parse(text) >= bound;
}
