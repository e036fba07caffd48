// What was deleted between the moment of the export and the counts of its plan. A history of the type tells it. Where
// the source has none, counts from before that moment may prove that there was nothing.

import { readHistory, typeHistory } from "../../fhir/history.ts";
import { countMatches } from "../../fhir/reads.ts";
import type { Work } from "../work.ts";
import type { DraftState, Planning } from "./draft.ts";

/** Whether the source has a history of types that can be used: what it declares is asked of one type. */
export async function probeHistory(
  { source, task }: Work,
  { typeHistory: isDeclared, end }: DraftState,
  type: string | undefined,
): Promise<boolean> {
  if (!isDeclared || !task.source.history) return false;
  if (type === undefined) return true;
  const ended = await readHistory(source, { link: typeHistory(type, end, 1), type, from: end }, () => true);
  return ended !== "refused" && ended !== "unordered";
}

/** How often a source that is written to is counted again. */
const mostTries = 3;

/** Whether nothing of a type was deleted between the moment of the export and now, as far as counts can prove it. It
 *  must be asked behind the counts of the plan.
 *  1. Count what was written since the first look at the type, then the type, then what was written once more. The two
 *     must be equal.
 *  2. What was created is among what was written. So if the type has grown by all that was written since the first
 *     look, nothing has gone. */
export async function isSteady({ work, draft, probe }: Planning, type: string): Promise<boolean> {
  const { seen, seenFrom } = draft.state;
  const before = seen?.held[type];
  const isCounted = probe.counts && probe.windows && !probe.uncounted?.includes(type) && !probe.caps?.[type];
  if (before === undefined || seenFrom === undefined || !isCounted) return false;
  // Some sources compare whole seconds only.
  const from = new Date(Math.floor(seenFrom / 1000) * 1000).toISOString();
  for (let tries = 0; tries < mostTries; tries++) {
    const written = await countMatches(work.source, { type, from });
    const all = await countMatches(work.source, { type });
    if (written === undefined || all === undefined) return false;
    if ((await countMatches(work.source, { type, from })) === written) return all - before === written;
  }
  return false;
}
