/** Paths of an export's objects below its folder (DESIGN section 6, contract). Pure. */

export const planPath = "_work/plan.json";
/** what a planner has found out so far; gone when plan.json stands */
export const planningPath = "_work/planning.json";
export const cohortPath = "_work/cohort";
export const manifestPath = "manifest.json";
export const sumsPath = "SHA256SUMS";
export const workPrefix = "_work/";

/** `shard` is the shard's id, `{Type}-{0001}`. */
export const checkpointPath = (shard: string) => `_work/${shard}/checkpoint.json`;
/** `from`: how many fingerprints the segments before it hold */
export const fingerprintPath = (shard: string, from: number, nonce: string) => `_work/${shard}/fp-${from}-${nonce}`;
export const resultPath = (shard: string) => `_work/${shard}/result.json`;

/** `Patient-0001-1.ndjson[.gz]`; `sequence` counts from 1 */
export const dataPath = (shard: string, sequence: number, gzip: boolean) =>
  `${shard}-${sequence}.ndjson${gzip ? ".gz" : ""}`;
/** what the names of a shard's files begin with */
export const dataPrefix = (shard: string) => `${shard}-`;
/** The shard's number is enough only together with its type: two types have a shard 0001. */
export const errorPath = (shard: string) => `errors/OperationOutcome-${shard}-1.ndjson`;

export const deletedPrefix = "deleted/";
/** Transaction Bundles that name what was deleted. */
export const deletedPath = (type: string, gzip: boolean) => `${deletedPrefix}${dataPath(shardId(type, 1), 1, gzip)}`;

export const shardId = (type: string, number: number) => `${type}-${String(number).padStart(4, "0")}`;

export const contentType = "application/fhir+ndjson";
