/** Paths of an export's objects below its folder. They are a contract: others than this program read them. Pure. */

export const planPath = "_work/plan.json";
/** What a planner has found out so far. It is removed when plan.json is written. */
export const planningPath = "_work/planning.json";
export const cohortPath = "_work/cohort";
export const manifestPath = "manifest.json";
export const sumsPath = "SHA256SUMS";
export const workPrefix = "_work/";

/** @param shard the shard's id, `{Type}-{0001}`; in all functions here */
export const checkpointPath = (shard: string) => `_work/${shard}/checkpoint.json`;
export const isCheckpoint = (path: string) => /^_work\/[^/]+\/checkpoint\.json$/.test(path);
export const shardOfCheckpoint = (path: string) => path.split("/")[1]!;
/** A segment of a shard's fingerprints.
 *  @param from how many fingerprints the segments before it hold
 *  @param nonce of the writer
 *  @param lines how many of them are of lines of the output, where not all are */
export const fingerprintPath = (shard: string, from: number, nonce: string, lines?: number) =>
  `_work/${shard}/fp-${from}-${nonce}${lines === undefined ? "" : `-${lines}`}`;
/** How many fingerprints of a segment, from its start, are of lines of the output; undefined: all. */
export function linesOfSegment(name: string): number | undefined {
  const lines = /\/fp-\d+-[^-/]+-(\d+)$/.exec(name)?.[1];
  return lines === undefined ? undefined : Number(lines);
}
/** A part of what follows the last block of a shard's open file.
 *  @param nonce of the writer
 *  @param number of the segment, which counts those of the writer */
export const tailPath = (shard: string, nonce: string, number: number) => `_work/${shard}/tail-${nonce}-${number}`;

/** `Patient-0001-1.ndjson[.gz]`. @param sequence counts the shard's files from 1 */
export const dataPath = (shard: string, sequence: number, gzip: boolean) =>
  `${shard}-${sequence}.ndjson${gzip ? ".gz" : ""}`;
/** The name holds the shard's type, too, as the shards of every type are numbered from 0001. */
export const errorPath = (shard: string) => `errors/OperationOutcome-${shard}-1.ndjson`;

/** Whether a path is of the kind that a manifest names: data, deletions or errors. */
export const isOutput = (path: string) =>
  path.startsWith(deletedPrefix) || path.startsWith("errors/") || /^[^/]+-\d{4,}-\d+\.ndjson(\.gz)?$/.test(path);

export const deletedPrefix = "deleted/";
/** The file with the transaction Bundles that name deleted resources. */
export const deletedPath = (type: string, gzip: boolean) => `${deletedPrefix}${dataPath(shardId(type, 1), 1, gzip)}`;

export const shardId = (type: string, number: number) => `${type}-${String(number).padStart(4, "0")}`;

export const contentType = "application/fhir+ndjson";
