import { same } from "../api/rules.ts";

/** coordination.k8s.io/v1 LeaseSpec, as far as an election reads and writes it. Times are by the writer's clock: they
 *  are for people, and never compared. */
export interface LeaseSpec {
  /** empty = nobody holds the lease */
  holderIdentity?: string;
  leaseDurationSeconds?: number;
  acquireTime?: string;
  renewTime?: string;
  leaseTransitions?: number;
}

/** client-go calls them LeaseDuration, RenewDeadline and RetryPeriod. */
export interface LeaseTimes {
  /** a candidate takes a lease that another holds when it has not seen it change for this long */
  leaseSeconds: number;
  /** a leader stops leading this long after its last successful renewal */
  renewSeconds: number;
  /** time between two tries to take or renew the lease */
  retrySeconds: number;
}

/** JitterFactor of client-go. */
const jitterFactor = 1.2;

/** The error in these times, naming the flags; undefined = none. The rules are those of client-go's NewLeaderElector: a
 *  leader must stop before another candidate may start, and must have had time for at least one more try. */
export function wrongTimes({ leaseSeconds, renewSeconds, retrySeconds }: LeaseTimes): string | undefined {
  if (leaseSeconds <= renewSeconds) return "--lease-seconds must be greater than --renew-seconds";
  if (renewSeconds <= retrySeconds * jitterFactor)
    return `--renew-seconds must be greater than ${jitterFactor} times --retry-period-seconds`;
  // A timer of node takes at most 24.8 days; a day is more than anyone needs.
  if (leaseSeconds > 86_400) return "--lease-seconds must be at most 86400";
  return undefined;
}

/** A lease as it was last seen to change. */
export interface Observed {
  spec: LeaseSpec;
  /** milliseconds of the observer's own monotonic clock */
  at: number;
}

/** What is known after the lease was read again. Only a change of the spec proves that its holder lives; a label that
 *  someone sets does not.
 *  @param now when the answer arrived, milliseconds of the monotonic clock */
export function observe(before: Observed | undefined, spec: LeaseSpec, now: number): Observed {
  return before && same(before.spec, spec) ? before : { spec, at: now };
}

/** Whether a candidate may write its name into a lease: if nobody holds it, if it is its own, or if it has not changed
 *  for the duration that its holder gave it.
 *  @param asked when the lease was requested, milliseconds of the monotonic clock: it was unchanged at least until then
 *  @param leaseSeconds the duration of a lease that names none */
export function mayTake({ spec, at }: Observed, identity: string, leaseSeconds: number, asked: number): boolean {
  if (!spec.holderIdentity || spec.holderIdentity === identity) return true;
  return asked - at >= (spec.leaseDurationSeconds ?? leaseSeconds) * 1000;
}

/** Whether another candidate holds the lease. */
export const isAnothers = ({ holderIdentity }: LeaseSpec, identity: string): boolean =>
  !!holderIdentity && holderIdentity !== identity;

/** The spec that takes a lease, or renews it if the candidate holds it already: then its acquireTime stays and no
 *  transition is counted.
 *  @param spec the present spec; undefined = there is no lease
 *  @param time of this write, as of microTime */
export function held(spec: LeaseSpec | undefined, identity: string, leaseSeconds: number, time: string): LeaseSpec {
  const renewal = spec?.holderIdentity === identity;
  return {
    ...spec,
    holderIdentity: identity,
    leaseDurationSeconds: leaseSeconds,
    acquireTime: (renewal ? spec.acquireTime : undefined) ?? time,
    renewTime: time,
    leaseTransitions: spec === undefined ? 0 : (spec.leaseTransitions ?? 0) + (renewal ? 0 : 1),
  };
}

/** The spec that gives a lease back, as ReleaseOnCancel of client-go does: it names no holder, and a duration of one
 *  second for candidates that look at the duration alone. */
export function released(spec: LeaseSpec, time: string): LeaseSpec {
  return { ...spec, holderIdentity: "", leaseDurationSeconds: 1, acquireTime: time, renewTime: time };
}

/** Milliseconds for which a leader may still act; 0 = it no longer leads. Both times are milliseconds of the monotonic
 *  clock, which continues while a process is stopped.
 *  @param renewed when the last successful renewal was sent (not answered): other candidates count from then at the
 *  earliest */
export function leadsFor(renewed: number, renewSeconds: number, now: number): number {
  return Math.max(0, renewed + renewSeconds * 1000 - now);
}

/** Milliseconds between two tries of a candidate: the period plus up to 1.2 times the period, so that candidates do not
 *  all try at once.
 *  @param random 0 to 1 */
export const candidateWait = (retrySeconds: number, random: number): number =>
  retrySeconds * 1000 * (1 + jitterFactor * random);

/** An instant as MicroTime of the API, which takes exactly six digits after the point. */
export const microTime = (date: Date): string => date.toISOString().replace("Z", "000Z");
