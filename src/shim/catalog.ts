import type { ExportTarget } from "../api/exporttarget.gen.ts";
import type { FhirSource } from "../api/fhirsource.gen.ts";

export interface Reading {
  source: () => Promise<FhirSource | undefined>;
  target: () => Promise<ExportTarget | undefined>;
  /** the types that the server at this base URL says it can search; undefined where it does not say so to everybody */
  types: (baseURL: string) => Promise<ReadonlySet<string> | undefined>;
}

export interface Known {
  source?: FhirSource | undefined;
  target?: ExportTarget | undefined;
  types?: ReadonlySet<string> | undefined;
}

/** an administrator's change is seen after so long, a new version of the FHIR server, too */
const catalogFreshMs = 60_000;
/** a kick-off waits for the first look, but not longer: what cannot be checked now is checked by the job */
const patienceMs = 3000;

/** What a kick-off is checked against. It is looked up now and then, not at each: a kick-off costs the API server one write. */
export class Catalog {
  readonly #reading: Reading;
  readonly #now: () => number;
  #known: Known = {};
  #readAt = Number.NEGATIVE_INFINITY;
  #running: Promise<void> | undefined;

  /** @param now milliseconds */
  constructor(reading: Reading, now: () => number) {
    this.#reading = reading;
    this.#now = now;
  }

  /** What was found last; an absent member could not be had, and is not checked. */
  async get(): Promise<Known> {
    if (this.#now() - this.#readAt > catalogFreshMs) {
      this.#running ??= this.#read().finally(() => (this.#running = undefined));
      if (this.#readAt === Number.NEGATIVE_INFINITY)
        await Promise.race([this.#running, new Promise((resolve) => setTimeout(resolve, patienceMs).unref())]);
    }
    return this.#known;
  }

  async #read(): Promise<void> {
    const { source, target, types } = this.#reading;
    const orBefore = <T>(value: Promise<T>, before: T): Promise<T> => value.catch(() => before);
    const [foundSource, foundTarget] = await Promise.all([
      orBefore(source(), this.#known.source),
      orBefore(target(), this.#known.target),
    ]);
    const base = foundSource?.spec.baseURL;
    const before = base === this.#known.source?.spec.baseURL ? this.#known.types : undefined;
    this.#known = { source: foundSource, target: foundTarget, types: before };
    this.#known = {
      source: foundSource,
      target: foundTarget,
      types: base === undefined ? undefined : await orBefore(types(base), before),
    };
    this.#readAt = this.#now();
  }
}
