/** An amount of memory that several holders share. */
export class MemoryBudget {
  #free: number;

  /** @param bytes how much there is */
  constructor(bytes: number) {
    this.#free = bytes;
  }

  /** @returns false where there is not that much left */
  take(bytes: number): boolean {
    if (bytes > this.#free) return false;
    this.#free -= bytes;
    return true;
  }
  give(bytes: number): void {
    this.#free += bytes;
  }
}
