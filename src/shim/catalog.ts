import type { ExportTarget } from "../api/exporttarget.gen.ts";
import type { FhirSource } from "../api/fhirsource.gen.ts";

/** How the catalog is read. */
export interface CatalogReaders {
  source: () => Promise<FhirSource | undefined>;
  target: () => Promise<ExportTarget | undefined>;
  /** The types that the server at this base URL says it can search; undefined where it does not say so to everybody. */
  types: (baseURL: string) => Promise<ReadonlySet<string> | undefined>;
}

/** What is known of the source and the target. */
export interface Known {
  source?: FhirSource | undefined;
  target?: ExportTarget | undefined;
  types?: ReadonlySet<string> | undefined;
}

/** After this time the catalog is read again, and sees an administrator's change or a new version of the FHIR
 *  server. */
const catalogFreshMs = 60_000;
/** The longest that a kick-off waits for the first reading. Then it is accepted unchecked, because the export's job
 *  checks the same. */
const patienceMs = 3000;

/** What a kick-off is checked against. It is read at most once a minute and not for each kick-off, which costs the
 *  API server one write and no more. */
export class Catalog {
  readonly #readers: CatalogReaders;
  readonly #now: () => number;
  #known: Known = {};
  #readAt = Number.NEGATIVE_INFINITY;
  #running: Promise<void> | undefined;

  /** @param now milliseconds */
  constructor(readers: CatalogReaders, now: () => number) {
    this.#readers = readers;
    this.#now = now;
  }

  /** What was read last. An absent member could not be read, and nothing is checked against it. */
  async get(): Promise<Known> {
    if (this.#now() - this.#readAt > catalogFreshMs) {
      this.#running ??= this.#read().finally(() => (this.#running = undefined));
      if (this.#readAt === Number.NEGATIVE_INFINITY)
        await Promise.race([this.#running, new Promise((resolve) => setTimeout(resolve, patienceMs).unref())]);
    }
    return this.#known;
  }

  async #read(): Promise<void> {
    const { source, target, types } = this.#readers;
    // what cannot be read now stays as it was
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
