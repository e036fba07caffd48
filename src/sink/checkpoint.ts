import type { Checkpoint, FilePart, ShardResult } from "../contracts.ts";
import type { SearchEvidence } from "../evidence.ts";
import { terminal } from "../failure.ts";

/** The place in the source up to which a shard is written. */
export interface Position {
  /** URL of the page that is being read; undefined: the shard's first */
  page: string | undefined;
  /** which of the shard's searches the page is of */
  search: number;
  /** of the shard's searches, as it was when the page began */
  evidence: readonly SearchEvidence[];
  /** how many fingerprints, in the order in which they were shown, belong to entries that are dealt with */
  prints: number;
  /** resources before the page that could not be read */
  errors: number;
  /** resources of which nobody can tell whether they are for the output */
  left: number;
  /** OperationOutcome lines that belong to them */
  errorLines: readonly string[];
  /** the file that is being written, if any, as far as its blocks have arrived */
  open: FilePart | undefined;
  /** Checkpoint.tail */
  tail: [path: string, bytes: number][];
}

/** A shard's checkpoint, if it is this export's and its writer may continue.
 *  @throws terminal Fenced, ForeignOutput, TaskVersion */
export function readCheckpoint(bytes: Buffer, { uid, shard }: { uid: string; shard: { id: string } }): Checkpoint {
  const checkpoint = JSON.parse(bytes.toString()) as Checkpoint;
  if (checkpoint.uid !== uid)
    throw terminal(
      "ForeignOutput",
      `the export's folder holds a checkpoint of another export (shard ${shard.id}); choose another container or name`,
    );
  if (checkpoint.fenced) throw terminal("Fenced", "the export was cancelled; its output is being removed");
  if (checkpoint.v !== 2)
    throw terminal(
      "TaskVersion",
      `the checkpoint of shard ${shard.id} has version ${checkpoint.v}, made by another release; finish the export with that release, or start it anew`,
    );
  return checkpoint;
}

/** The result of a shard; undefined where its checkpoint is not the last one. */
export function resultOf({ ended, ...checkpoint }: Checkpoint): ShardResult | undefined {
  if (!ended) return undefined;
  const { uid, shard, done, errors, errorLines = [], foreign, left, fingerprints } = checkpoint;
  return {
    uid,
    shard,
    files: done,
    resources: done.reduce((sum, { lines }) => sum + lines, 0),
    errors,
    errorLines,
    ...(foreign && { foreign }),
    ...(left !== undefined && { left }),
    fingerprints,
    ...ended,
  };
}
