import { escapeValue } from "./references.ts";

/** A search of one type, as the exporter makes it. Instants are RFC 3339 with milliseconds and Z. */
export interface Search {
  type: string;
  /** `_lastUpdated` from this instant on */
  from?: string | undefined;
  /** `_lastUpdated` before this instant */
  till?: string | undefined;
  /** the part of a typeFilter behind `?`, as the user wrote it */
  filter?: string | undefined;
  /** a parameter of the compartment, and its values: ids, or references */
  by?: { parameter: string; values: readonly string[] } | undefined;
  /** value of `_elements` */
  elements?: string | undefined;
  /** value of `_count` */
  count?: number;
  /** orders by `_lastUpdated`, then by `_id` */
  sort?: boolean;
  /** without `sort`: orders by `_lastUpdated` alone, to see the oldest (up) or the newest (down) resources */
  order?: "up" | "down" | undefined;
  /** asks only for the number of matches, by `_summary=count`; never by `_count=0`, which some servers read as "no
   *  limit" */
  summary?: boolean;
}

/** The URL of a search, relative to the source's base. */
export function searchURL({ type, from, till, filter, by, elements, count, sort, order, summary }: Search): string {
  const query: string[] = [];
  if (by) query.push(`${by.parameter}=${by.values.map((value) => encodeParameter(escapeValue(value))).join(",")}`);
  if (filter)
    query.push(
      ...filterParameters(filter).map(([name, value]) => `${encodeParameter(name)}=${encodeParameter(value)}`),
    );
  if (from) query.push(`_lastUpdated=ge${from}`);
  if (till) query.push(`_lastUpdated=lt${till}`);
  if (summary) query.push("_summary=count");
  else {
    if (sort) query.push("_sort=_lastUpdated,_id");
    else if (order) query.push(`_sort=${order === "up" ? "" : "-"}_lastUpdated`);
    if (count) query.push(`_count=${count}`);
    if (elements) query.push(`_elements=${elements}`);
  }
  return query.length ? `${type}?${query.join("&")}` : type;
}

/** The name and the value of each parameter of a filter, decoded once. A `+` stays a plus: filters hold time zones, and
 *  are not form-encoded. */
export function filterParameters(filter: string): [name: string, value: string][] {
  return filter
    .split("&")
    .filter((pair) => pair !== "")
    .map((pair) => {
      const at = pair.indexOf("=");
      return at < 0 ? [decodePercent(pair), ""] : [decodePercent(pair.slice(0, at)), decodePercent(pair.slice(at + 1))];
    });
}

/** The names of those parameters of `filter` that the source has ignored: the self link does not repeat them. Values
 *  are not compared, since servers rewrite them. */
export function ignoredParameters(filter: string, selfLink: string | undefined): string[] {
  const at = selfLink?.indexOf("?") ?? -1;
  const repeated = new Set(at < 0 ? [] : new URLSearchParams(selfLink!.slice(at + 1)).keys());
  return filterParameters(filter)
    .map(([name]) => name)
    .filter((name) => !repeated.has(name));
}

// Commas, colons, bars, slashes and dollars have a meaning in FHIR, and need no encoding in a query. & = + # and % do.
const encodeParameter = (text: string) =>
  encodeURIComponent(text).replace(/%(2C|3A|7C|2F|24)/gi, (hex) => decodeURIComponent(hex));

/** The text itself where it is not valid percent-encoding. */
function decodePercent(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
