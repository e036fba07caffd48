import type { Address } from "./address.ts";
import type { WorkedBefore } from "./refusals.ts";

/** What the source has answered so far, by kinds of requests: by it a request that the source refuses is told from a
 *  source that is away. */
export class AnsweredRequests {
  readonly #basePath: string;
  readonly #worked = new Set<string>();
  readonly #givenUp = new Set<string>();
  /** of each type the last search or probe that was answered */
  readonly #good = new Map<string, string>();
  #any = false;

  /** @param basePath path of the source's base URL, with a slash at its end */
  constructor(basePath: string) {
    this.#basePath = basePath;
  }

  /** The type that a search, a history or a read is of. */
  typeOf({ pathname }: Address): string | undefined {
    return /^[A-Z][A-Za-z]+(?=\/|$)/.exec(pathname.slice(this.#basePath.length))?.[0];
  }

  /** A request was answered as it should be.
   *  @param isLasting the same request can be sent again later; a next link may expire */
  note(url: Address, isLasting: boolean): void {
    const kind = this.#kindOf(url);
    if (kind.startsWith("metadata?")) return;
    this.#any = true;
    this.#worked.add(kind);
    const type = this.typeOf(url);
    if (isLasting && type !== undefined) this.#good.set(type, url.href);
  }

  worked(url: Address): WorkedBefore {
    return { same: this.#worked.has(this.#kindOf(url)), any: this.#any };
  }

  /** A request was given up, as others were answered meanwhile.
   *  @param status undefined: no whole answer came */
  noteGivenUp(url: Address, status: number | undefined): void {
    this.#givenUp.add(`${status} ${this.#kindOf(url)}`);
  }

  /** Whether a request of the same kind was given up because of the same answer. */
  wasGivenUp(url: Address, status: number | undefined): boolean {
    return this.#givenUp.has(`${status} ${this.#kindOf(url)}`);
  }

  /** Searches whose answers show that a request fails by itself, while the source is there.
   *  @param type of the request
   *  @returns `own`: of the same type, the one that has worked before first; `others`: of other types */
  witnesses(url: Address, type = this.typeOf(url)): { own: string[]; others: string[] } {
    const others = [...this.#good].filter(([of]) => of !== type).map(([, link]) => link);
    const own =
      type === undefined ? others.splice(0) : [this.#good.get(type), `${type}?_count=1`, `${type}?_summary=count`];
    if (type !== "Patient") others.push("Patient?_count=1");
    const isOther = (link: string | undefined): link is string =>
      link !== undefined && !url.href.endsWith(`/${link}`) && link !== url.href;
    return { own: own.filter(isOther), others: others.filter(isOther).slice(-2) };
  }

  /** The path without ids, and the names of the parameters. */
  #kindOf({ pathname, search }: Address): string {
    const path = pathname
      .slice(this.#basePath.length)
      .split("/")
      .map((part, index) => (index > 0 && !part.startsWith("_") ? "" : part))
      .join("/");
    const names = new Set(new URLSearchParams(search).keys());
    return `${path}?${[...names].sort().join("&")}`;
  }
}
