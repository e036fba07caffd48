/** The reasons that conditions and events can have, read off the code that makes them: what a person meets in `kubectl
 *  describe` is described in docs/troubleshooting.md and listed in docs/api.md, and tests hold both to this. */
import { globSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { ConditionType } from "../../src/api/conditions.ts";
import type { Condition } from "../../src/api/meta.ts";
import type { ReadyReason } from "../../src/contracts.ts";
import type { Facts } from "../../src/operator/facts.ts";
import { showState } from "../../src/operator/states.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));
const read = (path: string) => readFileSync(root + path, "utf8");

/** The members of a union of strings. */
function unionOf(path: string, name: string): string[] {
  const text = new RegExp(`export type ${name} =([^;]*);`).exec(read(path))?.[1];
  if (text === undefined) throw new Error(`${path} has no type ${name}`);
  return [...text.matchAll(/"(\w+)"/g)].map(([, one]) => one!);
}

export const conditionTypes = unionOf("src/api/conditions.ts", "ConditionType") as ConditionType[];
/** of Ready: what an export is doing */
export const states = unionOf("src/contracts.ts", "ReadyReason") as ReadyReason[];
/** what workers and operator find wrong */
export const failureReasons = unionOf("src/contracts.ts", "FailureReason");

/** What the `reason: "…"` of each file of src/operator is of. A file that is not named here must have none, or nobody
 *  would describe it. */
const uses: Record<string, "end" | "purge" | "event" | "validity"> = {
  "accept.ts": "end",
  "advance.ts": "end",
  "decide.ts": "end",
  "fence.ts": "purge",
  "remove.ts": "event",
  "validity.ts": "validity",
};

interface Found {
  /** of Failed and Stalled */
  end: string[];
  /** of Accepted=False: those of `end` that are the request's own fault */
  refused: string[];
  /** of Purged=False */
  purge: string[];
  /** of events that are not one of a state or of an end */
  event: string[];
  /** of Ready of a FhirSource or ExportTarget */
  validity: { reason: string; status: Condition["status"] }[];
  /** of conditions that are set by themselves */
  own: { type: ConditionType; status: Condition["status"]; reason: string }[];
}

const unique = (list: readonly string[]) => [...new Set(list)].sort();

/** What src/operator makes. @throws where a reason is made in a way that this does not see */
export function reasonsOfOperator(): Found {
  const found: Record<"end" | "purge" | "event", string[]> = {
    end: [...failureReasons],
    purge: [...failureReasons],
    event: [],
  };
  const validity: Found["validity"] = [];
  const own: Found["own"] = [];
  for (const path of globSync("src/operator/*.ts", { cwd: root }).sort()) {
    const text = read(path);
    const file = path.slice(path.lastIndexOf("/") + 1);
    for (const [, reason] of text.matchAll(/reason: "(\w+)"/g)) {
      const use = uses[file];
      if (!use) throw new Error(`${path} makes the reason ${reason}: name the file in test/tools/reasons.ts`);
      if (use === "validity") {
        const status = new RegExp(`status: "(\\w+)",\\s+reason: "${reason}"`).exec(text)?.[1];
        validity.push({ reason: reason!, status: status as Condition["status"] });
      } else if (!["Complete", "Cancelled"].includes(reason!)) found[use].push(reason!);
    }
    for (const [, , type, status, reason] of callsOf(text, "addCondition"))
      for (const [one, its] of pairs(reason!, status!))
        own.push({ type: literal(type!) as ConditionType, status: its, reason: one });
  }
  const refused = [
    ...(/\nfunction refuse\([\s\S]*?\n}/.exec(read("src/operator/accept.ts"))?.[0] ?? "").matchAll(/reason: "(\w+)"/g),
  ];
  if (refused.length === 0) throw new Error("src/operator/accept.ts has no function refuse that gives reasons");
  return {
    end: unique(found.end),
    refused: unique(refused.map(([, one]) => one!)),
    purge: unique(found.purge),
    event: unique(found.event),
    validity,
    own,
  };
}

const literal = (text: string) => /^"(\w+)"$/.exec(text)?.[1] ?? text;

/** A reason and its status as arguments: literals, or both by one condition. A variable is the reason of a purge. */
function pairs(reason: string, status: string): [string, Condition["status"]][] {
  const [reasons, statuses] = [reason, status].map((text) => [...text.matchAll(/"(\w+)"/g)].map(([, one]) => one!)) as [
    string[],
    string[],
  ];
  if (reasons.length === 0 && reason !== "step.reason" && reason !== "reason")
    throw new Error(`addCondition with the reason ${reason}: test/tools/reasons.ts does not know what that can be`);
  return reasons.map((one, index) => [one, (statuses[index] ?? statuses[0]) as Condition["status"]]);
}

/** The arguments of all calls of a function. */
function callsOf(text: string, name: string): string[][] {
  return [...text.matchAll(new RegExp(`(?<!function )\\b${name}\\(`, "g"))].map((match) => {
    const parts = [""];
    let depth = 0;
    let quote = "";
    for (let at = match.index + match[0].length; at < text.length; at++) {
      const char = text[at]!;
      if (quote) quote = char === quote ? "" : quote;
      else if (`"'\``.includes(char)) quote = char;
      else if ("([{".includes(char)) depth++;
      else if (")]}".includes(char) && --depth < 0) break;
      else if (char === "," && depth === 0) {
        parts.push("");
        continue;
      }
      parts[parts.length - 1] += char;
    }
    return parts.map((part) => part.trim());
  });
}

/** The conditions of a state, as the operator sets them. */
export function conditionsOf(state: ReadyReason): Condition[] {
  const facts = {
    export: { metadata: { name: "x", generation: 1 } },
    now: new Date(0),
    attempt: 1,
  } as unknown as Facts;
  return showState(facts, {}, state, "").conditions ?? [];
}

/** All of them, each once. */
export function allReasons(): string[] {
  const { end, purge, event, validity, own } = reasonsOfOperator();
  const shown = states.flatMap((state) => conditionsOf(state).map(({ reason }) => reason));
  return unique([
    ...states,
    ...shown,
    ...end,
    ...purge,
    ...event,
    ...validity.map(({ reason }) => reason),
    ...own.map(({ reason }) => reason),
  ]);
}
