import type { FhirSource } from "../api/fhirsource.gen.ts";

/** Pods that may run at once, and what each may ask of the source. The limits hold over all exports, so each of them gets an equal part,
 *  divided by its pods: floor(limit / (maxConcurrentExports x parallelism)). Where that would be 0, fewer pods run. */
export function shareOf(
  limits: FhirSource["spec"]["limits"],
  wanted: number,
): { parallelism: number; requests: number; perSecond?: number } {
  const exports = limits?.maxConcurrentExports ?? 2;
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
