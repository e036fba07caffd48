import { randomUUID } from "node:crypto";
import { hostname } from "node:os";
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
import { pause } from "./pause.ts";

const notRenewed = "the lease was not renewed in time";

interface Lease extends KubeObject {
  spec?: LeaseSpec;
}

export interface ElectorOptions extends LeaseTimes {
  namespace: string;
  name: string;
  /** default: the pod's name and a random part, since a container that is started again is another candidate */
  identity?: string;
  /** called when this process begins or ceases to lead; at the start with false */
  onLeading?: (leading: boolean) => void;
  /** injected in tests */
  now?: () => number;
  date?: () => Date;
  random?: () => number;
}

/** One candidate of a leader election on a Lease, by client-go's rules (tools/leaderelection). The election is no
 *  fence: a write that a leader sent before it lost the lease may arrive later, and has to be refused by
 *  resourceVersion, uid or name. */
export class LeaderElector {
  readonly identity: string;
  readonly #client: KubeClient;
  readonly #options: ElectorOptions;
  readonly #log: Logger;
  readonly #now: () => number;
  readonly #lost = new AbortController();
  readonly #stopped = new AbortController();
  /** the lease as it was last read or written; its resourceVersion guards the next write */
  #lease: Lease | undefined;
  #observed: Observed | undefined;
  /** when the last successful write was sent; undefined = there was none, or the lease was given back */
  #renewed: number | undefined;
  #deadline: NodeJS.Timeout | undefined;
  #renewing: Promise<void> | undefined;

  /** @param client must be able to write while this process does not lead */
  constructor(client: KubeClient, options: ElectorOptions, log: Logger) {
    this.#client = client;
    this.#options = options;
    this.identity = options.identity ?? `${process.env.HOSTNAME || hostname()}_${randomUUID()}`;
    this.#log = log.child({ lease: `${options.namespace}/${options.name}`, identity: this.identity });
    // This clock is monotonic and continues while the process is stopped.
    this.#now = options.now ?? (() => performance.now());
    options.onLeading?.(false);
  }

  /** Aborts when this process led and no longer does; it then never leads again. The reason is the error to end the
   *  process with. */
  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  /** Whether this process leads at this moment, by its own clock. */
  leads(): boolean {
    return !this.#lost.signal.aborted && this.#remaining() > 0;
  }

  /** Throws a transient failure unless this process leads. To be called right before each write, as a process may be
   *  stopped for any time at any line. */
  check(): void {
    if (this.leads()) return;
    if (this.#renewed !== undefined) this.#lose(notRenewed);
    throw transient("Internal", "this process does not lead, so it writes nothing");
  }

  /** Resolves when this process leads. From then on it renews the lease until release() or until the lease is lost.
   *  Rejects with the signal's reason if the signal aborts first, and if the API server finds the Lease malformed;
   *  after any other failure it tries again. */
  async acquire(signal: AbortSignal): Promise<void> {
    this.#log.info("waiting for the lease");
    while (!signal.aborted) {
      // An abort does not interrupt a try: it would be unknown whether the lease was taken.
      if (await this.#try()) {
        this.#log.info({ transitions: this.#lease?.spec?.leaseTransitions }, "took the lease: this process leads");
        this.#options.onLeading?.(true);
        this.#renewing = this.#renew();
        return;
      }
      await pause(candidateWait(this.#options.retrySeconds, (this.#options.random ?? Math.random)()), signal);
    }
    throw signal.reason;
  }

  /** Gives the lease back, if this process leads, so that another candidate can take it at once. Call it only when all
   *  work that needs the lease has ended. */
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
      this.#log.warn(
        { error: String(error) },
        "the lease could not be given back; another candidate must wait until it expires",
      );
    }
  }

  async #renew(): Promise<void> {
    const end = AbortSignal.any([this.#stopped.signal, this.#lost.signal]);
    for (;;) {
      await pause(this.#options.retrySeconds * 1000, end);
      if (end.aborted) return;
      // If the process was stopped, another may lead by now.
      if (!this.leads()) return this.#lose(notRenewed);
      if (!(await this.#try()) && this.#observed && isAnothers(this.#observed.spec, this.identity))
        return this.#lose(`${this.#observed.spec.holderIdentity} has taken it`);
    }
  }

  /** Tries once to take or renew the lease. @returns whether this process holds it now */
  async #try(): Promise<boolean> {
    try {
      return await this.#tryAcquireOrRenew();
    } catch (error) {
      const failure = toKubeFailure(error);
      // A leader tries until its deadline; a candidate must not wait for what can never succeed.
      if (failure.class === "terminal" && this.#renewed === undefined) throw failure;
      this.#log.warn({ leads: this.leads() }, failure.message);
      return false;
    }
  }

  async #tryAcquireOrRenew(): Promise<boolean> {
    const { leaseSeconds } = this.#options;
    // A leader tries without reading first: mostly nobody else has written the lease.
    if (this.leads() && this.#lease && (await this.#write(this.#lease))) return true;
    const asked = this.#now();
    const lease = await this.#client.get<Lease>(this.#path(), this.#call()).catch(unlessNotFound);
    if (!lease) return this.#write(undefined);
    const before = this.#observed?.spec.holderIdentity;
    this.#observed = observe(this.#observed, lease.spec ?? {}, this.#now());
    const { holderIdentity } = this.#observed.spec;
    if (holderIdentity !== before && isAnothers(this.#observed.spec, this.identity))
      this.#log.info({ holder: holderIdentity }, "another process leads");
    return mayTake(this.#observed, this.identity, leaseSeconds, asked) && this.#write(lease);
  }

  /** Writes this candidate's name into the lease.
   *  @param lease as it was read; undefined = there is none, and it is created
   *  @returns false when another candidate was first, or the answer came too late */
  async #write(lease: Lease | undefined): Promise<boolean> {
    const { namespace, name, leaseSeconds } = this.#options;
    // True if the process was stopped while it waited for the answer to its read.
    if (this.#renewed !== undefined && !this.leads()) {
      this.#lose(notRenewed);
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
    // The answer may have taken so long that other candidates no longer wait.
    if (this.#lost.signal.aborted || leadsFor(sent, this.#options.renewSeconds, this.#now()) === 0) return false;
    this.#renewed = sent;
    this.#setDeadline();
    return true;
  }

  /** Ends the leadership when the last renewal is too old. This has a timer of its own, so that a call that hangs
   *  cannot delay it. */
  #setDeadline(): void {
    clearTimeout(this.#deadline);
    this.#deadline = setTimeout(() => {
      if (this.#renewed === undefined) return;
      if (this.leads()) this.#setDeadline();
      else this.#lose(notRenewed);
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

  /** milliseconds for which this process may still act */
  #remaining(): number {
    return this.#renewed === undefined ? 0 : leadsFor(this.#renewed, this.#options.renewSeconds, this.#now());
  }
  #path(): string {
    return pathOf(resources.leases, { namespace: this.#options.namespace, name: this.#options.name });
  }
  #time(): string {
    return microTime((this.#options.date ?? (() => new Date()))());
  }
  /** Half of the renew time, as controller-runtime has it: after a call that hangs there is time for another one. */
  #call() {
    return { deadlineMs: Math.min(10_000, this.#options.renewSeconds * 500) };
  }
}

function unlessNotFound(error: unknown): undefined {
  if (!isNotFound(error)) throw error;
}
