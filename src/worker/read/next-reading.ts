/** What is known of a shard when one has to decide whether it is read again. What is absent does not hold. */
export interface ReadingEvidence {
  /** A reading has proven that nothing is missing (`isProven`). */
  proven?: boolean;
  /** The source forgot a next link, so the reading has not come to its end. */
  expired?: boolean;
  /** Answers that the readings so far have told as errors, if another reading can still take that back. */
  errors?: number;
  /** The shard has shown rows that another one may have to write, and nobody has noted which. */
  unclaimed?: boolean;
  /** How many resources the source counts in the shard beyond those that are known and still there. It lies between two
   *  numbers, as some of those that are known may have left since. */
  missing?: { least: number; most: number };
  /** For a shard that is not counted: how many readings in a row have shown nothing new, and how many are wanted. */
  silence?: { had: number; wanted: number };
}

/** - `none`: the shard is read.
 *  - `onward`: it is read from its start once more; what was shown is known, and only new resources are written.
 *  - `anew`: what was written of it is thrown away, and it is read from its start.
 *  - `unclear`: that depends on how many of the known resources have left; ask again with `least` and `most` equal. */
export type NextReading = "none" | "onward" | "anew" | "unclear";

/** Decides whether a shard is read again. This is the only place that does, for the package that reads it first and for
 *  the seal that closes its type. Both bound how often they ask. */
export function nextReading(evidence: ReadingEvidence): NextReading {
  const { proven, expired, errors = 0, unclaimed, missing, silence } = evidence;
  if (proven) return "none";
  // Errors are no resources, so a second reading would not know them, and tell them twice.
  if (expired) return errors > 0 ? "anew" : "onward";
  // A page that lied may not do so again.
  if (errors > 0) return "anew";
  if (unclaimed) return "onward";
  if (missing) return missing.least > 0 ? "onward" : missing.most > 0 ? "unclear" : "none";
  return silence && silence.had < silence.wanted ? "onward" : "none";
}

/** Whether the last reading of a search has proven that nothing is missing:
 *  - It has shown as many resources as the source counted right before it.
 *  - Nothing is counted: readings must agree. */
export function isProven(reading: {
  counted: number | undefined;
  shown: number;
  silence: NonNullable<ReadingEvidence["silence"]>;
}): boolean {
  const { counted, shown, silence } = reading;
  if (counted === undefined) return silence.had >= silence.wanted;
  return shown === counted;
}
