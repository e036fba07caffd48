import { same } from "../api/rules.ts";

/** coordination.k8s.io/v1 LeaseSpec, as far as an election reads and writes it. Times are of the writer's clock: shown, never compared. */
export interface LeaseSpec {
  /** empty = nobody */
  holderIdentity?: string;
  leaseDurationSeconds?: number;
  acquireTime?: string;
  renewTime?: string;
  leaseTransitions?: number;
}

/** In client-go's terms LeaseDuration, RenewDeadline and RetryPeriod. */
export interface LeaseTimes {
  /** how long others wait, since they last saw a change, before they take a lease that is held */
  leaseSeconds: number;
  /** how long a leader goes on without a renewal that went well */
  renewSeconds: number;
  /** between two tries */
  retrySeconds: number;
}

/** JitterFactor of client-go. */
const jitterFactor = 1.2;

/** What is wrong with these times, naming the flags; undefined = nothing. The rules are those of client-go's NewLeaderElector: a leader must stop
 *  before another may start, and must have had at least one more try. */
export function wrongTimes({ leaseSeconds, renewSeconds, retrySeconds }: LeaseTimes): string | undefined {
  if (leaseSeconds <= renewSeconds) return "--lease-seconds must be greater than --renew-seconds";
  if (renewSeconds <= retrySeconds * jitterFactor)
    return `--renew-seconds must be greater than ${jitterFactor} times --retry-period-seconds`;
  // and what is longer than a timer can be would never come
  if (leaseSeconds > 86_400) return "--lease-seconds must be at most 86400";
  return undefined;
}

/** A lease as it was last seen to change. */
export interface Observed {
  spec: LeaseSpec;
  /** milliseconds of the observer's own monotonic clock */
  at: number;
}

/** What is known after the lease was read once more. Only a change of the spec says that its holder lives; a label that someone sets does not.
 *  @param now when the answer was there, milliseconds of the monotonic clock */
export function observe(before: Observed | undefined, spec: LeaseSpec, now: number): Observed {
  return before && same(before.spec, spec) ? before : { spec, at: now };
}

/** Whether a candidate may write its name into a lease: nobody's, its own, or one that did not change for the duration its holder gave it.
 *  @param asked when the lease was asked for, milliseconds of the monotonic clock: it may have changed since, not before
 *  @param leaseSeconds for a lease that names no duration */
export function mayTake({ spec, at }: Observed, identity: string, leaseSeconds: number, asked: number): boolean {
  if (!spec.holderIdentity || spec.holderIdentity === identity) return true;
  return asked - at >= (spec.leaseDurationSeconds ?? leaseSeconds) * 1000;
}

/** Whether the lease is in the name of someone else. */
export const isAnothers = ({ holderIdentity }: LeaseSpec, identity: string): boolean =>
  !!holderIdentity && holderIdentity !== identity;

/** The spec that takes a lease, or renews it when it is the candidate's own already: then its acquireTime stays and no transition is counted.
 *  @param spec undefined = there is no lease
 *  @param time of this write, see microTime */
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

/** The spec that gives a lease back (ReleaseOnCancel of client-go): nobody's; and for those who go by the duration alone, a short one. */
export function released(spec: LeaseSpec, time: string): LeaseSpec {
  return { ...spec, holderIdentity: "", leaseDurationSeconds: 1, acquireTime: time, renewTime: time };
}

/** Milliseconds for which a leader may still act; 0 = it leads no more.
 *  @param renewed when the last renewal that went well was sent (not answered): others count from then at the earliest
 *  @param now both in milliseconds of the monotonic clock, which goes on while a process is stopped */
export function leadsFor(renewed: number, renewSeconds: number, now: number): number {
  return Math.max(0, renewed + renewSeconds * 1000 - now);
}

/** Milliseconds between two tries of a candidate: the period and up to 1.2 times as much again, so that candidates do not try all at once.
 *  @param random 0 to 1 */
export const candidateWait = (retrySeconds: number, random: number): number =>
  retrySeconds * 1000 * (1 + jitterFactor * random);

/** MicroTime of the API, which refuses another number of digits. */
export const microTime = (date: Date): string => date.toISOString().replace("Z", "000Z");
