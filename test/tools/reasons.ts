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
const uses: Record<string, "end" | "purge" | "event" | "cause"> = {
  "accept.ts": "end",
  "advance.ts": "end",
  "decide.ts": "end",
  "run-effects.ts": "purge",
  "remove.ts": "event",
  "cause.ts": "cause",
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
  /** of Reconciling of an export that does not get on */
  cause: string[];
  /** of Ready of a FhirSource or ExportTarget */
  validity: { reason: string; status: Condition["status"] }[];
  /** of conditions that are set by themselves */
  own: { type: ConditionType; status: Condition["status"]; reason: string }[];
}

const unique = (list: readonly string[]) => [...new Set(list)].sort();

/** A condition as src/operator writes it: its members in this order, each a literal. */
const literalCondition = /type: "(\w+)",\s+status: "(\w+)",\s+reason: "(\w+)"/g;
/** A condition whose reason is a variable. */
const variableCondition = /type: "\w+",\s+status: "\w+",\s+reason(?:: ([\w.]+))?,/g;

/** The reasons that src/operator makes. @throws where one is made in a way that this does not see */
export function reasonsOfOperator(): Found {
  const found: Record<"end" | "purge" | "event" | "cause", string[]> = {
    end: [...failureReasons],
    purge: [...failureReasons],
    event: [],
    cause: [],
  };
  const validity: Found["validity"] = [];
  const own: Found["own"] = [];
  for (const path of globSync("src/operator/*.ts", { cwd: root }).sort()) {
    const text = read(path);
    const file = path.slice(path.lastIndexOf("/") + 1);
    for (const [, type, status, reason] of text.matchAll(literalCondition)) {
      if (file === "validity.ts") validity.push({ reason: reason!, status: status as Condition["status"] });
      else if (file !== "states.ts")
        own.push({ type: type as ConditionType, status: status as Condition["status"], reason: reason! });
    }
    const rest = text.replaceAll(literalCondition, "");
    for (const [, reason] of rest.matchAll(/reason: "(\w+)"/g)) {
      const use = uses[file];
      if (!use) throw new Error(`${path} makes the reason ${reason}: name the file in test/tools/reasons.ts`);
      if (!["Complete", "Cancelled"].includes(reason!)) found[use].push(reason!);
    }
    for (const [, value = "reason"] of rest.matchAll(variableCondition))
      if (value !== "purge.reason" && file !== "states.ts")
        throw new Error(
          `${path} makes a condition with the reason ${value}: test/tools/reasons.ts cannot tell its values`,
        );
  }
  const refused = [
    ...(/\nfunction findRefusal\([\s\S]*?\n}/.exec(read("src/operator/accept.ts"))?.[0] ?? "").matchAll(
      /reason: "(\w+)"/g,
    ),
  ];
  if (refused.length === 0) throw new Error("src/operator/accept.ts has no function findRefusal that gives reasons");
  return {
    end: unique(found.end),
    refused: unique(refused.map(([, one]) => one!)),
    purge: unique(found.purge),
    event: unique(found.event),
    cause: unique(found.cause),
    validity,
    own,
  };
}

/** The conditions of a state, as the operator sets them. */
export function conditionsOf(state: ReadyReason): Condition[] {
  const facts = {
    export: { metadata: { name: "x", generation: 1 } },
    now: new Date(0),
    attempt: 1,
  } as unknown as Facts;
  return showState(facts, {}, { state, message: "" }).conditions ?? [];
}

/** All of them, each once. */
export function allReasons(): string[] {
  const { end, purge, event, cause, validity, own } = reasonsOfOperator();
  const shown = states.flatMap((state) => conditionsOf(state).map(({ reason }) => reason));
  return unique([
    ...states,
    ...shown,
    ...end,
    ...purge,
    ...event,
    ...cause,
    ...validity.map(({ reason }) => reason),
    ...own.map(({ reason }) => reason),
  ]);
}
