import { randomUUID } from "node:crypto";
import { hostname } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { transient } from "../failure.ts";
import type { Logger } from "../log.ts";
import { type KubeClient, type KubeObject, pathOf, resources } from "./client.ts";
import {
  candidateWait,
  held,
  isAnothers,
  type LeaseSpec,
  type LeaseTimes,
  leadsFor,
  mayTake,
  microTime,
  type Observed,
  observe,
  released,
} from "./election.ts";
import { isAlreadyExists, isConflict, isNotFound, toKubeFailure } from "./error.ts";

const late = "the lease was not renewed in time";

interface Lease extends KubeObject {
  spec?: LeaseSpec;
}

export interface ElectorOptions extends LeaseTimes {
  namespace: string;
  name: string;
  /** default: the pod's name and something random: a container that is started again is another candidate */
  identity?: string;
  /** told when it begins and ceases to lead */
  onLeading?: (leading: boolean) => void;
  /** injected in tests */
  now?: () => number;
  date?: () => Date;
  random?: () => number;
}

/** One candidate of a leader election on a Lease, by client-go's rules (tools/leaderelection), which is no fencing: what a leader sent before it
 *  lost the lease may arrive later, and has to be refused by resourceVersion, uid or name. */
export class LeaderElector {
  readonly identity: string;
  readonly #client: KubeClient;
  readonly #options: ElectorOptions;
  readonly #log: Logger;
  readonly #now: () => number;
  readonly #lost = new AbortController();
  readonly #stopped = new AbortController();
  /** as it was last read or written: its resourceVersion guards the next write */
  #lease: Lease | undefined;
  #observed: Observed | undefined;
  /** when the last write that went well was sent; undefined = never, or given back */
  #renewed: number | undefined;
  #deadline: NodeJS.Timeout | undefined;
  #renewing: Promise<void> | undefined;

  /** @param client not one whose writes wait for this election */
  constructor(client: KubeClient, options: ElectorOptions, log: Logger) {
    this.#client = client;
    this.#options = options;
    this.identity = options.identity ?? `${process.env.HOSTNAME || hostname()}_${randomUUID()}`;
    this.#log = log.child({ lease: `${options.namespace}/${options.name}`, identity: this.identity });
    // monotonic, and it goes on while the process is stopped
    this.#now = options.now ?? (() => performance.now());
    options.onLeading?.(false);
  }

  /** Aborts, with the error to end the process with, when it led and does no more. It never leads again. */
  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  /** By its own clock, at this moment. */
  leads(): boolean {
    return !this.#lost.signal.aborted && this.#remaining() > 0;
  }

  /** Throws unless it leads: to be asked right before each write, as a process may have been stopped for any time at any line. */
  check(): void {
    if (this.leads()) return;
    if (this.#renewed !== undefined) this.#lose(late);
    throw transient("Internal", "this process does not lead: nothing is written");
  }

  /** Resolves when it leads, from when on it renews the lease until release() or until it is lost. Rejects with the signal's reason when that
   *  aborts before, and when the API server finds the Lease malformed; whatever else fails is tried again. */
  async acquire(signal: AbortSignal): Promise<void> {
    this.#log.info("waiting for the lease");
    while (!signal.aborted) {
      // a try that was begun is brought to its end: an abort in the middle would leave open whose the lease is
      if (await this.#try()) {
        this.#log.info({ transitions: this.#lease?.spec?.leaseTransitions }, "leading");
        this.#options.onLeading?.(true);
        this.#renewing = this.#renew();
        return;
      }
      await pause(candidateWait(this.#options.retrySeconds, (this.#options.random ?? Math.random)()), signal);
    }
    throw signal.reason;
  }

  /** Gives the lease back, if it leads, so that another can take it at once. Only for when all work that needs the lease has ended. */
  async release(): Promise<void> {
    this.#stopped.abort();
    await this.#renewing;
    clearTimeout(this.#deadline);
    if (!this.leads()) return;
    this.#renewed = undefined;
    this.#options.onLeading?.(false);
    try {
      const lease = await this.#client.get<Lease>(this.#path(), this.#call());
      if (lease.spec?.holderIdentity !== this.identity) return;
      await this.#client.replace<Lease>(
        this.#path(),
        { ...lease, spec: released(lease.spec, this.#time()) },
        this.#call(),
      );
      this.#log.info("gave the lease back");
    } catch (error) {
      this.#log.warn({ error: String(error) }, "the lease could not be given back; it runs out");
    }
  }

  async #renew(): Promise<void> {
    const end = AbortSignal.any([this.#stopped.signal, this.#lost.signal]);
    for (;;) {
      await pause(this.#options.retrySeconds * 1000, end);
      if (end.aborted) return;
      // after a stop of the process others may lead by now
      if (!this.leads()) return this.#lose(late);
      if (!(await this.#try()) && this.#observed && isAnothers(this.#observed.spec, this.identity))
        return this.#lose(`${this.#observed.spec.holderIdentity} has taken it`);
    }
  }

  /** One try to take or renew the lease; whether it went well. */
  async #try(): Promise<boolean> {
    try {
      return await this.#tryAcquireOrRenew();
    } catch (error) {
      const failure = toKubeFailure(error);
      // a leader has until its deadline
      if (failure.class === "terminal" && this.#renewed === undefined) throw failure;
      this.#log.warn({ leads: this.leads() }, failure.message);
      return false;
    }
  }

  async #tryAcquireOrRenew(): Promise<boolean> {
    const { leaseSeconds } = this.#options;
    // mostly nobody else has written it
    if (this.leads() && this.#lease && (await this.#write(this.#lease))) return true;
    const asked = this.#now();
    const lease = await this.#client.get<Lease>(this.#path(), this.#call()).catch(unlessNotFound);
    if (!lease) return this.#write(undefined);
    const before = this.#observed?.spec.holderIdentity;
    this.#observed = observe(this.#observed, lease.spec ?? {}, this.#now());
    const { holderIdentity } = this.#observed.spec;
    if (holderIdentity !== before && isAnothers(this.#observed.spec, this.identity))
      this.#log.info({ holder: holderIdentity }, "another leads");
    return mayTake(this.#observed, this.identity, leaseSeconds, asked) && this.#write(lease);
  }

  /** @param lease what is there; undefined = nothing
   *  @returns false when someone else was first */
  async #write(lease: Lease | undefined): Promise<boolean> {
    const { namespace, name, leaseSeconds } = this.#options;
    // the process was stopped while it waited for an answer
    if (this.#renewed !== undefined && !this.leads()) {
      this.#lose(late);
      return false;
    }
    const sent = this.#now();
    const spec = held(lease?.spec, this.identity, leaseSeconds, this.#time());
    try {
      this.#lease = lease
        ? await this.#client.replace<Lease>(this.#path(), { ...lease, spec }, this.#call())
        : await this.#client.create<Lease>(
            pathOf(resources.leases, { namespace }),
            { apiVersion: "coordination.k8s.io/v1", kind: "Lease", metadata: { name }, spec },
            this.#call(),
          );
    } catch (error) {
      if (isConflict(error) || isAlreadyExists(error) || (lease && isNotFound(error))) return false;
      throw error;
    }
    this.#observed = observe(this.#observed, this.#lease.spec ?? {}, this.#now());
    // so long ago that others may not wait any longer
    if (this.#lost.signal.aborted || leadsFor(sent, this.#options.renewSeconds, this.#now()) === 0) return false;
    this.#renewed = sent;
    this.#setDeadline();
    return true;
  }

  /** A timer of its own: a call that hangs must not hold up the end. */
  #setDeadline(): void {
    clearTimeout(this.#deadline);
    this.#deadline = setTimeout(() => {
      if (this.#renewed === undefined) return;
      if (this.leads()) this.#setDeadline();
      else this.#lose(late);
    }, this.#remaining() + 1);
  }

  #lose(why: string): void {
    clearTimeout(this.#deadline);
    if (this.#lost.signal.aborted) return;
    this.#options.onLeading?.(false);
    this.#log.error(
      { sinceRenewedSeconds: Math.round((this.#now() - (this.#renewed ?? 0)) / 100) / 10 },
      `leader election lost: ${why}`,
    );
    this.#lost.abort(transient("Internal", `leader election lost: ${why}`));
  }

  /** milliseconds */
  #remaining(): number {
    return this.#renewed === undefined ? 0 : leadsFor(this.#renewed, this.#options.renewSeconds, this.#now());
  }
  #path(): string {
    return pathOf(resources.leases, { namespace: this.#options.namespace, name: this.#options.name });
  }
  #time(): string {
    return microTime((this.#options.date ?? (() => new Date()))());
  }
  /** as controller-runtime has it: one call that hangs leaves time for another */
  #call() {
    return { deadlineMs: Math.min(10_000, this.#options.renewSeconds * 500) };
  }
}

function unlessNotFound(error: unknown): undefined {
  if (!isNotFound(error)) throw error;
}

/** Sleeps; an abort ends it early. */
async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal }).catch(() => {});
}
