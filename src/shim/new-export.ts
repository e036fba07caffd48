/** The FhirExport that a kick-off makes. Pure. */
import type { FhirExport, FhirExportSpec } from "../api/fhirexport.gen.ts";
import { annotations } from "../api/names.ts";
import type { ShimConfig } from "./deps.ts";
import type { SpecParts } from "./parameters.ts";

interface NewExport {
  name: string;
  spec: SpecParts;
  client: string;
  /** The kick-off's URL as the client called it. */
  request: string;
  /** Parts of the request that a lenient client lets us drop. */
  warnings: string[];
  separateStatus: boolean;
  /** Of the kick-off, where it has an Idempotency-Key. */
  digest: string | undefined;
}

/** The object to store. From the request it has only what its parameters become; everything else is the
 *  administrator's choice. */
export function toFhirExport(
  { name, spec, client, request, warnings, separateStatus, digest }: NewExport,
  { source, target }: ShimConfig,
  defaults: Partial<FhirExportSpec>,
): Pick<FhirExport, "spec"> & { metadata: { name: string; annotations?: Record<string, string> } } {
  const notes = {
    ...(separateStatus && { [annotations.separateStatus]: "true" }),
    ...(digest !== undefined && { [annotations.request]: digest }),
  };
  return {
    metadata: { name, ...(Object.keys(notes).length > 0 && { annotations: notes }) },
    spec: {
      sourceRef: { name: source },
      targetRef: { name: target },
      ...defaults,
      ...spec,
      origin: { client, request, ...(warnings.length > 0 && { warnings }) },
    },
  };
}

/** Counts a client's exports that are neither complete, nor failed for good, nor cancelled. */
export function countUnfinished(all: Iterable<FhirExport>, client: string): number {
  let count = 0;
  for (const { spec, metadata, status } of all) {
    if (spec.origin?.client !== client || spec.cancel || metadata.deletionTimestamp) continue;
    const isFinished = status?.conditions?.some(
      ({ type, status }) => (type === "Complete" || type === "Stalled") && status === "True",
    );
    if (!isFinished) count++;
  }
  return count;
}
