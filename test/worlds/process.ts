import type { Clock } from "../../src/surroundings.ts";
import type { Random } from "../sources/random.ts";
import { clockOf, type Timeline } from "./timeline.ts";

/** What is sent to. */
export type Peer = "source" | "storage";

/** What befalls a process at one of its requests. */
export interface Blow {
  peer: Peer;
  /** Which of the process's requests to that peer, from 1. */
  request: number;
  /** `killBefore`: the request is not sent; `killAfter`: it is answered, but nobody takes the answer; `freeze`: it is
   *  sent, and the process stands still for a while. */
  kind: "killBefore" | "killAfter" | "freeze";
  /** How long it stands still. */
  ms?: number;
}

/** How long a request and its answer take, in milliseconds. */
export interface Latency {
  source: [least: number, most: number];
  storage: [least: number, most: number];
}

/** Is told what happens to a process. */
export interface Listener {
  death(): void;
  freeze(): void;
  request(peer: Peer): void;
}

const never = <T>(): Promise<T> => new Promise<T>(() => {});

/** One process of a worker, seen from outside: whatever reaches it, and whatever it sends, passes here. So it can be
 *  killed like a process (from then on nothing reaches it), or stand still and wake up later. */
export class WorkerProcess {
  readonly #timeline: Timeline;
  readonly #chance: Random;
  readonly #latency: Latency;
  readonly #blows: Blow[];
  readonly #requests = { source: 0, storage: 0 };
  #state: "runs" | "frozen" | "dead" = "runs";
  /** what has arrived while it stood still */
  #held: (() => void)[] = [];
  readonly #on: Listener;

  constructor(world: { timeline: Timeline; chance: Random; latency: Latency }, blows: readonly Blow[], on: Listener) {
    this.#timeline = world.timeline;
    this.#chance = world.chance;
    this.#latency = world.latency;
    this.#blows = [...blows];
    this.#on = on;
  }

  get isFrozen(): boolean {
    return this.#state === "frozen";
  }

  /** The clock of the process. @param ahead by how much its wall clock is wrong */
  clock(ahead: number): Clock {
    const timeline = this.#timeline;
    return clockOf(
      {
        get now() {
          return timeline.now;
        },
        after: (ms, call) => timeline.after(ms, () => this.#reach(call)),
      },
      ahead,
    );
  }

  kill(): void {
    if (this.#state === "dead") return;
    this.#state = "dead";
    this.#held = [];
    this.#on.death();
  }

  /** Stands still for a while. What arrives meanwhile is taken when it wakes up. */
  freeze(ms: number): void {
    if (this.#state !== "runs") return;
    this.#state = "frozen";
    this.#on.freeze();
    this.#timeline.after(ms, () => {
      if (this.#state !== "frozen") return;
      this.#state = "runs";
      for (const call of this.#held.splice(0)) call();
    });
  }

  /** Sends a request.
   *  @param effect what it does, at the moment when it arrives
   *  @returns the result, when the answer arrives; never, if the process is dead by then */
  send<T>(peer: Peer, effect: () => T | Promise<T>): Promise<T> {
    if (this.#state === "dead") return never();
    const number = ++this.#requests[peer];
    this.#on.request(peer);
    const at = this.#blows.findIndex((blow) => blow.peer === peer && blow.request <= number);
    const blow = at < 0 ? undefined : this.#blows.splice(at, 1)[0]!;
    if (blow?.kind === "killBefore") {
      this.kill();
      return never();
    }
    if (blow?.kind === "freeze") this.freeze(blow.ms!);
    const [least, most] = this.#latency[peer];
    const [there, back] = [this.#wait(least, most), this.#wait(least, most)];
    return new Promise((resolve, reject) => {
      const answer = (settle: () => void) => {
        if (blow?.kind === "killAfter") this.kill();
        this.#timeline.after(back, () => this.#reach(settle));
      };
      this.#timeline.after(there, () => {
        let result: T | Promise<T>;
        try {
          result = effect();
        } catch (error) {
          return answer(() => reject(error));
        }
        if (!(result instanceof Promise)) return answer(() => resolve(result));
        result.then(
          (value) => answer(() => resolve(value)),
          (error) => answer(() => reject(error)),
        );
      });
    });
  }

  #wait(least: number, most: number): number {
    return (least + this.#chance.next() * (most - least)) / 2;
  }

  /** Something arrives at the process. */
  #reach(call: () => void): void {
    if (this.#state === "frozen") this.#held.push(call);
    else if (this.#state === "runs") call();
  }
}
