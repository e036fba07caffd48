/** Chains to begin with. */
const firstChains = 4;
/** More chains are kept if they bring this part of what they would bring to a source without limits. */
const leastGain = 0.3;

/** How many chains read at a time: as many as make the source give more pages a second. A server with two cores gives
 *  no more to sixteen chains than to four, and takes half as much again of its processors for the same pages.
 *
 *  It begins with four. The pages of a first round were asked for by fewer chains, so the second round is timed. Then
 *  there are twice as many, for as long as that brings enough. Pure. */
export class ChainGrowth {
  readonly #most: number;
  #wanted: number;
  /** what was wanted before, and the pages a millisecond that it gave */
  #before: { chains: number; rate: number } | undefined;
  /** since the number was raised last */
  #pages = 0;
  #from = 0;
  #isSettled = false;

  /** @param most how many chains there may be */
  constructor(most: number) {
    this.#most = most;
    this.#wanted = Math.min(most, firstChains);
  }

  get wanted(): number {
    return this.#wanted;
  }

  /** A page was read.
   *  @param now milliseconds, by a clock that never goes back */
  page(now: number): void {
    if (this.#isSettled) return;
    this.#pages++;
    if (this.#pages === this.#wanted) this.#from = now;
    if (this.#pages < 2 * this.#wanted) return;
    const [chains, before] = [this.#wanted, this.#before];
    const rate = chains / (now - this.#from);
    if (before && rate < before.rate * (1 + leastGain * (chains / before.chains - 1))) {
      this.#wanted = before.chains;
      this.#isSettled = true;
    } else if (chains === this.#most) this.#isSettled = true;
    else {
      this.#before = { chains, rate };
      this.#wanted = Math.min(this.#most, 2 * chains);
      this.#pages = 0;
    }
  }
}
