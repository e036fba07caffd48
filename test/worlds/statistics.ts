import type { Result } from "./run.ts";

/** Counts what was drawn, and how worlds have ended. */
export class Statistics {
  worlds = 0;
  readonly ends = new Map<string, number>();
  readonly features = new Map<string, number>();
  readonly #pairs = new Map<string, number>();

  /** requests of the world that needed most of those that ended */
  readonly most = { source: 0, storage: 0 };

  add(features: readonly string[], { end, exact, requests }: Pick<Result, "end" | "exact" | "requests">): void {
    this.worlds++;
    if (end !== "unbounded")
      for (const peer of ["source", "storage"] as const) this.most[peer] = Math.max(this.most[peer], requests[peer]);
    count(this.ends, exact === undefined ? end : exact ? "exact" : "not exact");
    const sorted = [...features].sort();
    for (const [at, one] of sorted.entries()) {
      count(this.features, one);
      for (const other of sorted.slice(at + 1)) count(this.#pairs, `${one} + ${other}`);
    }
  }

  /** How often each feature was drawn; how many pairs of features there are, how many of them were drawn, and how often
   *  the rarest were. */
  render(): string {
    const all = [...this.features].sort(([, a], [, b]) => b - a);
    const possible = (all.length * (all.length - 1)) / 2;
    const rare = [...this.#pairs].sort(([, a], [, b]) => a - b).slice(0, 5);
    return [
      `most requests of a world: ${this.most.source} to the source, ${this.most.storage} to storage`,
      `ends: ${[...this.ends].map(([name, number]) => `${name} ${number}`).join(", ")}`,
      `features: ${all.map(([name, number]) => `${name} ${number}`).join(", ")}`,
      `pairs of features: ${this.#pairs.size} of ${possible} were drawn; the rarest: ${rare.map(([name, number]) => `${name} ${number}`).join(", ")}`,
    ].join("\n");
  }
}

function count(into: Map<string, number>, name: string): void {
  into.set(name, (into.get(name) ?? 0) + 1);
}
