import type { Checkpoint } from "../contracts.ts";
import { terminal } from "../failure.ts";

/** A shard's checkpoint, if it is this export's and its writer may go on.
 *  @throws terminal Fenced, ForeignOutput, TaskVersion */
export function readCheckpoint(bytes: Buffer, { uid, shard }: { uid: string; shard: { id: string } }): Checkpoint {
  const checkpoint = JSON.parse(bytes.toString()) as Checkpoint;
  if (checkpoint.uid !== uid)
    throw terminal(
      "ForeignOutput",
      `the export's folder holds a checkpoint of another export (shard ${shard.id}); choose another container or name`,
    );
  if (checkpoint.fenced) throw terminal("Fenced", "the export was cancelled; its output is being removed");
  if (checkpoint.v !== 1)
    throw terminal(
      "TaskVersion",
      `the checkpoint of shard ${shard.id} has version ${checkpoint.v}, made by another release`,
    );
  return checkpoint;
}
