import type { FhirSource } from "../api/fhirsource.gen.ts";

/** limits.maxConcurrentExports of a FhirSource that does not set it; the default of the CRD */
export const defaultConcurrentExports = 2;

/** How many pods of an export may run at a time, and how much each may ask of the source. The source's limits hold over
 *  all its exports, so each export gets an equal part of them, divided by its pods: floor(limit / (maxConcurrentExports
 *  x parallelism)). Where that would be 0, fewer pods run.
 *  @param wanted spec.parallelism */
export function shareOf(
  limits: FhirSource["spec"]["limits"],
  wanted: number,
): { parallelism: number; requests: number; perSecond?: number } {
  const exports = limits?.maxConcurrentExports ?? defaultConcurrentExports;
  const requests = Math.max(1, Math.floor((limits?.concurrentRequests ?? 32) / exports));
  const rate =
    limits?.requestsPerSecond === undefined ? undefined : Math.max(1, Math.floor(limits.requestsPerSecond / exports));
  const parallelism = Math.max(1, Math.min(wanted, requests, rate ?? wanted));
  return {
    parallelism,
    requests: Math.floor(requests / parallelism),
    ...(rate === undefined ? {} : { perSecond: Math.floor(rate / parallelism) }),
  };
}
