import { createHash } from "node:crypto";
import type { Page } from "./bundle.ts";
import type { Behaviour } from "./faults.ts";
import { parse, type Query, run, slice, total } from "./query.ts";
import type { Current, Store, Version } from "./store.ts";
import { span } from "./values.ts";

/** Where a next link continues. */
interface Position {
  type: string;
  parameters: [string, string][];
  strict: boolean;
  offset: number;
  after?: { lastUpdated: number; id: string };
  /** The answer as it was at the first page. HAPI keeps its ids and serves the versions that they have by now. */
  snapshot?: { id: string; ids: string[] };
  history?: { id: string; versions: Version[] };
}

/** A page, and what the server has to know about it besides its Bundle. */
export interface Found extends Page {
  pretty: boolean;
  /** Whether it is a page of data; else it is only a count. */
  data: boolean;
  /** Whether its search names `_lastUpdated`. */
  windowed: boolean;
}

const defaultCount = 20;
const maxCount = 250;

/** Searches, their pages and the next links in between. */
export class Searches {
  readonly #store: Store;
  readonly #behaviour: () => Behaviour;
  readonly #positions = new Map<string, Position>();
  #snapshots = 0;
  readonly #versionCounts = new Map<string, number>();

  constructor(store: Store, behaviour: () => Behaviour) {
    this.#store = store;
    this.#behaviour = behaviour;
  }

  /** The first page of a search. @throws BadQuery */
  first(base: string, type: string, parameters: [string, string][], strict: boolean): Found {
    const at = parameters.findIndex(([name]) => name === "_offset");
    const offset = at < 0 || this.#behaviour().paging !== "offset" ? 0 : Number(parameters.splice(at, 1)[0]![1]);
    return this.#page(base, { type, parameters, strict, offset });
  }

  /** The page that a next link's token leads to; undefined when the token is unknown, or not known any more. */
  next(base: string, token: string): Found | undefined {
    const position = this.#positions.get(token);
    return position && (position.history ? this.#historyPage(base, position) : this.#page(base, position, token));
  }

  /** Forgets all next links. */
  expire(): void {
    this.#positions.clear();
  }

  #rules(base: string, strict: boolean) {
    const { ignore, unknownParameters, ...behaviour } = this.#behaviour();
    return {
      bases: behaviour.alias === undefined ? [base] : [base, behaviour.alias],
      lastReferenceOnly: behaviour.lastReferenceOnly ?? false,
      defaultCount: behaviour.defaultCount ?? defaultCount,
      maxCount: behaviour.maxCount ?? maxCount,
      ignore: ignore ?? [],
      repeatIgnored: behaviour.ignoreButRepeat ?? false,
      ignoreUnknown: unknownParameters === "ignore" || (unknownParameters === "ignoreUnlessStrict" && !strict),
      noCount: behaviour.noCount ?? false,
      refuseSort: behaviour.refuseSort ?? false,
      refuse: behaviour.refuse ?? [],
      findNothing: behaviour.findNothing ?? [],
      lastOnly: behaviour.lastOnly ?? false,
      precision: behaviour.precision,
    };
  }

  #page(base: string, position: Position, token?: string): Found {
    const query = parse(position.type, position.parameters, this.#rules(base, position.strict));
    const behaviour = this.#behaviour();
    const { countError = 0, countsNothing, resultCap = Number.POSITIVE_INFINITY } = behaviour;
    const count = () => (countsNothing ? 0 : Math.min(resultCap, Math.max(0, total(this.#store, query) + countError)));
    const shown = behaviour.usesAlias ? behaviour.alias! : base;
    const self = token === undefined ? selfLink(shown, query) : tokenLink(shown, position, token);
    const common = {
      type: "searchset",
      base,
      self,
      pretty: query.pretty,
      windowed: query.from !== Number.NEGATIVE_INFINITY,
      elements: query.elements,
      linksLast: behaviour.linksLast,
    } as const;
    if (query.summaryCount) return { ...common, total: count(), entries: [], data: false };

    const { entries, more } = this.#entries(position, query);
    const whole = !more && position.offset === 0 && !position.after;
    return {
      ...common,
      total:
        query.accurateTotal || behaviour.alwaysTotal
          ? count()
          : whole
            ? countsNothing
              ? 0
              : entries.length + countError
            : undefined,
      next: more && this.#link(base, more, query),
      entries,
      data: true,
    };
  }

  #entries(position: Position, query: Query): { entries: Current[]; more?: Position } {
    const found = this.#uncapped(position, query);
    const { resultCap: cap } = this.#behaviour();
    if (cap === undefined) return found;
    const entries = found.entries.slice(0, Math.max(0, cap - position.offset));
    return position.offset + query.count < cap ? { ...found, entries } : { entries };
  }

  #uncapped(position: Position, query: Query): { entries: Current[]; more?: Position } {
    const { paging, unstableOrder } = this.#behaviour();
    const { offset } = position;
    if (paging === "snapshot" || unstableOrder || position.snapshot) {
      const snapshot = position.snapshot ?? this.#snapshot(query, unstableOrder ?? false);
      const ids = snapshot.ids.slice(offset, offset + query.count);
      const entries = ids.map((id) => this.#store.get(query.type, id)).filter((it) => it !== undefined);
      const end = offset + query.count;
      return end < snapshot.ids.length ? { entries, more: { ...position, snapshot, offset: end } } : { entries };
    }
    if (paging === "offset") {
      const found = slice(this.#store, query, offset, query.count + 1);
      const entries = found.slice(0, query.count);
      return found.length > query.count
        ? { entries, more: { ...position, offset: offset + query.count } }
        : { entries };
    }
    const entries: Current[] = [];
    for (const it of run(this.#store, query, position.after as Current | undefined)) {
      if (entries.length === query.count) {
        const { lastUpdated, id } = entries.at(-1)!;
        return { entries, more: { ...position, offset: offset + query.count, after: { lastUpdated, id } } };
      }
      entries.push(it);
    }
    return { entries };
  }

  #snapshot(query: Query, shuffled: boolean): { id: string; ids: string[] } {
    const id = String(this.#snapshots++);
    const ids = [...run(this.#store, query)].map((it) => it.id);
    const key = (value: string) => createHash("md5").update(`${id} ${value}`).digest("hex");
    return {
      id,
      ids: shuffled
        ? ids
            .map((value) => [key(value), value])
            .sort()
            .map(([, value]) => value!)
        : ids,
    };
  }

  /** Links hide the query, because a readable one would tempt a client to change it. Links of offset paging show it,
   *  as HAPI's `_offset` does. */
  #link(base: string, position: Position, query: Query): string {
    if (this.#behaviour().paging === "offset" && !position.snapshot && !position.history) {
      const readable = `${base}/${position.type}?${new URLSearchParams([...query.understood, ["_offset", String(position.offset)]])}`;
      if (readable.length < 2000) return readable;
    }
    const { snapshot, history, ...rest } = position;
    // the same page of the same search has the same link, so that answers can be compared
    const token = createHash("sha256")
      .update(JSON.stringify([rest, snapshot?.id ?? history?.id]))
      .digest("base64url")
      .slice(0, 24);
    this.#positions.set(token, position);
    return tokenLink(base, position, token);
  }

  /** First page of `_history` of a type or an instance: newest first. */
  history(base: string, path: string, versions: Version[], parameters: [string, string][]): Found {
    const given = new Map(parameters);
    const [since, at] = [given.get("_since"), given.get("_at")];
    let found = versions;
    if (since) {
      const { from } = span(since);
      found = found.filter((it) => it.lastUpdated >= from);
    }
    if (at) {
      const { from } = span(at);
      const newest = new Map<string, Version>();
      // versions of an id come oldest first
      for (const it of found) if (it.lastUpdated <= from) newest.set(it.id, it);
      found = [...newest.values()];
    }
    let sorted = found.toSorted((a, b) => b.lastUpdated - a.lastUpdated || b.sequence - a.sequence);
    const { versionsKept, staleVersionCount, oldestFirst } = this.#behaviour();
    const isInstance = path.includes("/");
    if (isInstance && versionsKept !== undefined) sorted = sorted.slice(0, versionsKept);
    if (isInstance && staleVersionCount && !since && !at) {
      const counted = this.#versionCounts.get(path) ?? sorted.length;
      this.#versionCounts.set(path, counted);
      sorted = sorted.slice(0, counted);
    }
    const history = { id: `${this.#snapshots++}`, versions: oldestFirst ? sorted.reverse() : sorted };
    return this.#historyPage(base, { type: path, parameters, strict: false, offset: 0, history });
  }

  #historyPage(base: string, position: Position): Found {
    const { versions } = position.history!;
    const rules = this.#rules(base, false);
    const asked = position.parameters.find(([name]) => name === "_count")?.[1];
    const count = Math.max(1, Math.min(asked ? Number(asked) : rules.defaultCount, rules.maxCount));
    const end = position.offset + count;
    const { linksLast, historyType = "history", deletionsHoldResources } = this.#behaviour();
    return {
      type: historyType,
      base,
      self: `${base}/${position.type}/_history?${new URLSearchParams(position.parameters)}`,
      next:
        end < versions.length
          ? this.#link(base, { ...position, offset: end }, { understood: [] as [string, string][] } as Query)
          : undefined,
      total: versions.length,
      entries: versions.slice(position.offset, end),
      history: { deletionsHoldResources },
      linksLast,
      pretty: false,
      windowed: false,
      data: true,
    };
  }
}

function selfLink(base: string, { type, understood }: Query): string {
  const query = new URLSearchParams(understood).toString();
  return query ? `${base}/${type}?${query}` : `${base}/${type}`;
}

/** Links of cursors and offsets lead to the type; links of snapshots and histories lead to the base, as HAPI's do. */
function tokenLink(base: string, { type, snapshot, history }: Position, token: string): string {
  return snapshot || history
    ? `${base}?_getpages=${token}&_bundletype=${history ? "history" : "searchset"}`
    : `${base}/${type}?_cursor=${token}`;
}
