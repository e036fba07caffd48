import type { Failure } from "../contracts.ts";
import type { Clock } from "../surroundings.ts";

/** What requests to the source meet while none of them is answered. */
export class Trouble {
  readonly #clock: Clock;
  #met: { since: number; failure: Failure } | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** A request has failed, and is sent again. */
  note(failure: Failure): void {
    this.#met = { since: this.#met?.since ?? this.#clock.monotonic(), failure };
  }

  /** A request was answered. */
  end(): void {
    this.#met = undefined;
  }

  /** The last failure; undefined: one was answered since, or it has not lasted for `ms` milliseconds. */
  lasting(ms: number): Pick<Failure, "reason" | "message"> | undefined {
    if (!this.#met || this.#clock.monotonic() - this.#met.since < ms) return undefined;
    const { reason, message } = this.#met.failure;
    return { reason, message };
  }
}
