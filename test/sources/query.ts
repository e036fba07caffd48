import { parametersOf } from "./parameters.ts";
import { byTime, type Current, lowerBound, type Store } from "./store.ts";
import { BadValue, matcher, span, split, valuesAt } from "./values.ts";

export type SortKey = "_lastUpdated" | "-_lastUpdated" | "_id" | "-_id";

/** A search of one type, understood. */
export interface Query {
  type: string;
  /** The half-open window of `_lastUpdated`, the intersection of all such parameters. */
  from: number;
  till: number;
  ids?: Set<string>;
  tests: ((resource: Current) => boolean)[];
  sort: SortKey[];
  count: number;
  summaryCount: boolean;
  accurateTotal: boolean;
  elements?: Set<string>;
  pretty: boolean;
  /** The parameters that the self link repeats. */
  understood: [name: string, value: string][];
}

/** A request that a real server would answer with 400. */
export class BadQuery extends Error {}

export interface QueryRules {
  /** The server's own base URLs. */
  bases: string[];
  lastReferenceOnly: boolean;
  defaultCount: number;
  maxCount: number;
  /** Parameters that are dropped as if they had not been sent: names, or all but `_count`. */
  ignore: readonly string[] | "all";
  /** Unknown parameters are dropped instead of refused. */
  ignoreUnknown: boolean;
  /** The self link repeats parameters that are dropped. */
  repeatIgnored: boolean;
  noCount: boolean;
  refuseSort: boolean;
  /** Parameters that are refused with 400. */
  refuse: readonly string[];
  /** Parameters with which nothing is found. */
  findNothing: readonly string[];
  /** Of a repeated parameter only the last value counts. */
  lastOnly: boolean;
  /** How the index of times rounds. */
  precision: { ms: number; nearest?: boolean } | undefined;
}

/** Understands the parameters of `Type?…`.
 *  @throws BadQuery */
export function parse(type: string, parameters: Iterable<[string, string]>, rules: QueryRules): Query {
  const query: Query = {
    type,
    from: Number.NEGATIVE_INFINITY,
    till: Number.POSITIVE_INFINITY,
    tests: [],
    sort: [],
    count: rules.defaultCount,
    summaryCount: false,
    accurateTotal: false,
    pretty: false,
    understood: [],
  };
  try {
    const all = [...parameters];
    for (const [at, [name, value]] of all.entries()) {
      if (rules.lastOnly && all.slice(at + 1).some(([other]) => other === name)) continue;
      if (rules.refuse.includes(name)) throw new BadQuery(`${name} is not supported`);
      if (rules.findNothing.includes(name)) query.tests.push(() => false);
      const dropped = rules.ignore === "all" ? name !== "_count" : rules.ignore.includes(name.replace(/:.*/, ""));
      if (dropped ? rules.repeatIgnored : understand(query, name, value, rules)) query.understood.push([name, value]);
    }
  } catch (error) {
    if (error instanceof BadValue) throw new BadQuery(error.message);
    throw error;
  }
  if (rules.precision) {
    query.from = unrounded(query.from, rules.precision);
    query.till = unrounded(query.till, rules.precision);
  }
  return query;
}

/** @returns whether the parameter is to be repeated by the self link */
function understand(query: Query, name: string, value: string, rules: QueryRules): boolean {
  switch (name) {
    case "_lastUpdated":
      narrow(query, value);
      return true;
    case "_count":
      if (!/^\d+$/.test(value)) throw new BadQuery(`_count "${value}" is not a number`);
      query.count = Math.min(Number(value), rules.maxCount);
      if (query.count === 0) query.summaryCount = true;
      return true;
    case "_id": {
      const ids = new Set(split(value, ",").map((id) => id.replace(`${query.type}/`, "")));
      query.ids = query.ids ? new Set([...ids].filter((id) => query.ids!.has(id))) : ids;
      return true;
    }
    case "_sort":
      if (rules.refuseSort) throw new BadQuery("_sort is not supported");
      query.sort = value.split(",").map((key) => {
        if (!/^-?(_lastUpdated|_id)$/.test(key)) throw new BadQuery(`Cannot sort by "${key}"`);
        return key as SortKey;
      });
      return true;
    case "_summary":
      if (value !== "count" && value !== "false") throw new BadQuery(`_summary=${value} is not supported`);
      if (value === "count" && rules.noCount) return false;
      query.summaryCount ||= value === "count";
      return true;
    case "_total":
      if (!/^(none|estimate|accurate)$/.test(value)) throw new BadQuery(`_total=${value} is not supported`);
      query.accurateTotal = value !== "none";
      return true;
    case "_elements":
      query.elements = new Set(value.split(",").map((element) => element.replace(`${query.type}.`, "")));
      return true;
    case "_format":
      if (!/json/.test(value)) throw new BadQuery(`_format=${value} is not supported`);
      return true;
    case "_pretty":
      query.pretty = value === "true";
      return true;
  }
  const [base = "", modifier, ...rest] = name.split(":");
  const parameter = parametersOf(query.type)[base];
  if (!parameter || rest.length) {
    if (rules.ignoreUnknown) return false;
    throw new BadQuery(`Unknown search parameter "${name}" for resource type "${query.type}"`);
  }
  const test = matcher(parameter, modifier, value, rules.bases);
  const found = (values: unknown[]) =>
    rules.lastReferenceOnly && parameter.kind === "reference" ? values.slice(-1) : values;
  query.tests.push((resource) => test(found(valuesOf(resource, base, parameter.paths))));
  return true;
}

/** The least time whose rounded one is not below `bound`. */
const unrounded = (bound: number, { ms, nearest }: { ms: number; nearest?: boolean }): number =>
  Math.ceil(bound / ms) * ms - (nearest ? ms / 2 : 0);

/** The earliest time that a Date can hold. Resources without a time (-Infinity) are before it and so in no window. */
const earliest = -8.64e15;

function narrow(query: Query, value: string): void {
  const [, prefix, text] = /^(eq|gt|ge|lt|le|sa|eb|ne|ap)?(.*)$/.exec(value)!;
  const asked = span(text!);
  if (prefix === "ne" || prefix === "ap") throw new BadQuery(`Prefix ${prefix} of _lastUpdated is not supported`);
  const from = { eq: asked.from, ge: asked.from, gt: asked.till, sa: asked.till }[prefix ?? "eq"];
  const till = { eq: asked.till, le: asked.till, lt: asked.from, eb: asked.from }[prefix ?? "eq"];
  query.from = Math.max(query.from, from ?? earliest);
  if (till !== undefined) query.till = Math.min(query.till, till);
}

// only the values that filters read are kept and not the parsed resources, because samples may be large
const cache = new WeakMap<Current, Map<string, unknown[]>>();

function valuesOf(resource: Current, name: string, paths: readonly string[]): unknown[] {
  let values = cache.get(resource);
  if (!values) cache.set(resource, (values = new Map()));
  let found = values.get(name);
  if (!found) values.set(name, (found = valuesAt(JSON.parse(resource.bytes.toString()), paths)));
  return found;
}

/** The order of a search's answer; without `_sort` the newest come first, as on many servers. */
export function orderOf(sort: readonly SortKey[]): (a: Current, b: Current) => number {
  const keys = sort.length ? sort : (["-_lastUpdated", "-_id"] as const);
  return (a, b) => {
    for (const key of keys) {
      const by = key.endsWith("_id") ? (a.id < b.id ? -1 : a.id > b.id ? 1 : 0) : a.lastUpdated - b.lastUpdated;
      if (by) return key.startsWith("-") ? -by : by;
    }
    return byTime(a, b);
  };
}

/** The resources of a search in its order, found one by one.
 *  @param after a keyset cursor: the resources that follow it */
export function* run(store: Store, query: Query, after?: Current): Generator<Current> {
  const passes = (it: Current) =>
    it.lastUpdated >= query.from &&
    it.lastUpdated < query.till &&
    (!query.ids || query.ids.has(it.id)) &&
    query.tests.every((test) => test(it));
  const order = orderOf(query.sort);
  const isWanted = (it: Current) => (!after || order(it, after) > 0) && passes(it);
  if (query.ids) {
    const found = [...query.ids].map((id) => store.indexed(query.type, id)).filter((it) => it !== undefined);
    yield* found.filter(isWanted).sort(order);
    return;
  }
  const first = query.sort[0] ?? "-_lastUpdated";
  if (first.endsWith("_id")) {
    const items = store.byID(query.type);
    const all = first === "_id" ? items : items.toReversed();
    for (const it of all) if (isWanted(it)) yield it;
    return;
  }
  const items = store.byTime(query.type);
  let [low, high] = windowOf(items, query);
  const isAscending = first === "_lastUpdated";
  if (after && isAscending) low = Math.max(low, lowerBound(items, { lastUpdated: after.lastUpdated, id: "" }));
  // Nothing lies between a resource without a time (-Infinity) and the oldest time that a number can say.
  const next = after && Math.max(after.lastUpdated + 1, -Number.MAX_VALUE);
  if (next !== undefined && !isAscending) high = Math.min(high, lowerBound(items, { lastUpdated: next, id: "" }));
  for (const tie of ties(items, { low, high }, isAscending ? 1 : -1)) yield* tie.filter(isWanted).sort(order);
}

/** Walks a part of the time index, and gives resources of one time together, because the search's own order decides
 *  among them.
 *  @param high not included */
function* ties(
  items: readonly Current[],
  { low, high }: { low: number; high: number },
  step: 1 | -1,
): Generator<Current[]> {
  let i = step === 1 ? low : high - 1;
  while (i >= low && i < high) {
    const time = items[i]!.lastUpdated;
    const tie: Current[] = [];
    for (; i >= low && i < high && items[i]!.lastUpdated === time; i += step) tie.push(items[i]!);
    yield tie;
  }
}

function windowOf(items: readonly Current[], { from, till }: Query): [number, number] {
  return [lowerBound(items, { lastUpdated: from, id: "" }), lowerBound(items, { lastUpdated: till, id: "" })];
}

/** How many resources match. */
export function total(store: Store, query: Query): number {
  if (query.ids || query.tests.length) return [...run(store, query)].length;
  const [low, high] = windowOf(store.byTime(query.type), query);
  return Math.max(0, high - low);
}

/** A page of a search by offset. It reads no further than the end of the page. */
export function slice(store: Store, query: Query, offset: number, count: number): Current[] {
  const found: Current[] = [];
  let n = 0;
  for (const it of run(store, query)) {
    if (n++ < offset) continue;
    if (found.length === count) break;
    found.push(it);
  }
  return found;
}
