import type { ShardResult } from "../../contracts.ts";
import type { ShardClosing } from "./type-closing.ts";

// Doubts: why an export may not be exact, each a sentence for an OperationOutcome, without ids. Pure.
// docs/troubleshooting.md says what to do about each.

const raiseSettle = "Raise settleSeconds of the FhirSource above the time that its index lags.";

/** Of the shards that are open when the closing gives up. */
export const openDoubts = (open: readonly ShardClosing[]): string[] =>
  open.map(({ shard: { id, type }, searches }) =>
    searches.every(({ proof, counted, refuted }) => proof || counted === undefined || refuted)
      ? `That the source shows all resources of ${type} in the window of shard ${id} cannot be proven, as it does not count them; some may be missing.`
      : `The source counts more resources of ${type} in the window of shard ${id} than it shows; some may be missing.`,
  );

/** Of resources whose patients nobody can tell, by type. */
export function leftDoubts(results: readonly Pick<ShardResult, "type" | "left">[]): string[] {
  const byType = new Map<string, number>();
  for (const { type, left = 0 } of results) if (left > 0) byType.set(type, (byType.get(type) ?? 0) + left);
  return [...byType].map(
    ([type, left]) =>
      `${left} resources of ${type} are left out: they refer to a patient by an identifier, a URN or another server's address, and the source does not find them by a patient of its own.`,
  );
}

/** What the tail of a type leaves open, in numbers of resources. */
interface TailGaps {
  /** Another shard has exported the version before, and this update became searchable only while the export ran. */
  older: number;
  /** exported, although they were deleted shortly before transactionTime */
  stillShown: number;
  /** exported by two shards, before and after such an update */
  twice: number;
  /** written to since D, and their version right before D cannot be obtained */
  lost: number;
  /** exported as they are now, since there is no history */
  newer: number;
  /** Counted by the plan and not seen since. Deletions are seen in histories only. */
  gone: number;
  /** No count would miss what was deleted. */
  goneUnknown: boolean;
  /** What was written since D could not be read. */
  unread: boolean;
}

export function tailDoubts(type: string, gaps: TailGaps): string[] {
  const { older, stillShown, twice, lost, newer, gone, goneUnknown, unread } = gaps;
  const doubts: string[] = [];
  if (older > 0)
    doubts.push(
      `${older} resources of ${type} are older than transactionTime: searches showed their last update only while the export ran. ${raiseSettle}`,
    );
  if (stillShown > 0)
    doubts.push(
      `${stillShown} resources of ${type} were deleted shortly before transactionTime, and searches still showed them. ${raiseSettle}`,
    );
  if (twice > 0)
    doubts.push(
      `${twice} resources of ${type} come twice, before and after an update that searches showed only while the export ran. ${raiseSettle}`,
    );
  if (lost > 0)
    doubts.push(
      `${lost} resources of ${type} were written to while the export ran, and how they were at transactionTime cannot be obtained.`,
    );
  if (newer > 0)
    doubts.push(
      `${newer} resources of ${type} are newer than transactionTime: the source has no history to read the version before from.`,
    );
  // "At least": some of those that are newer may have been created since.
  if (gone > 0)
    doubts.push(`At least ${gone} resources of ${type} were deleted while the export ran, before they were read.`);
  if (goneUnknown)
    doubts.push(
      `Whether resources of ${type} were deleted while the export ran, before they were read, cannot be known: the source shows no history of the type and no exact counts of it.`,
    );
  if (unread)
    doubts.push(
      `What was written to ${type} while the export ran cannot be read: the source refuses that search. Some resources may be missing.`,
    );
  return doubts;
}
