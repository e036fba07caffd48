/** Range and content negotiation of HTTP (RFC 9110 sections 12 to 14), as far as downloads need it. Pure. */

export type Range = { start: number; end: number } | "whole" | "unsatisfiable";

/** The part of a file that a Range header asks for, with an inclusive `end`. Several ranges, other units and malformed
 *  headers give the whole file, which RFC 9110 allows.
 *  @param size of the file, in bytes
 *  @param ifRange the header If-Range: the range counts only while it equals `etag`. The comparison is strong, so a
 *    date never does */
export function rangeOf(header: string | undefined, size: number, etag: string, ifRange: string | undefined): Range {
  if (header === undefined || (ifRange !== undefined && ifRange !== etag)) return "whole";
  const [, first, last] = /^bytes=\s*(\d*)\s*-\s*(\d*)\s*$/i.exec(header) ?? [];
  if (first === undefined || last === undefined || (first === "" && last === "")) return "whole";
  if (first === "") {
    const count = Number(last);
    return count === 0 || size === 0 ? "unsatisfiable" : { start: Math.max(0, size - count), end: size - 1 };
  }
  const start = Number(first);
  if (last !== "" && Number(last) < start) return "whole";
  if (start >= size) return "unsatisfiable";
  return { start, end: last === "" ? size - 1 : Math.min(Number(last), size - 1) };
}

interface Weighed {
  name: string;
  q: number;
}

/** The members of an Accept or Accept-Encoding header with their weights; a malformed weight is 0. */
const weighed = (header: string): Weighed[] =>
  header
    .toLowerCase()
    .split(",")
    .flatMap((part) => {
      const [name = "", ...parameters] = part.split(";").map((text) => text.trim());
      const q = parameters.find((one) => one.startsWith("q="));
      const value = q === undefined ? 1 : Number(q.slice(2));
      return name ? [{ name, q: value >= 0 && value <= 1 ? value : 0 }] : [];
    });

/** Whether a client accepts gzip and does not prefer the plain bytes. Without the header RFC 9110 allows any coding,
 *  but many clients that send none cannot unpack. */
export function takesGzip(acceptEncoding: string | undefined): boolean {
  if (acceptEncoding === undefined) return false;
  const all = weighed(acceptEncoding);
  const q = (name: string) => all.find((one) => one.name === name)?.q;
  const gzip = q("gzip") ?? q("x-gzip") ?? q("*") ?? 0;
  const identity = q("identity") ?? (q("*") === 0 ? 0 : undefined);
  return gzip > 0 && gzip >= (identity ?? 0);
}

const ndjson = [
  "application/fhir+ndjson",
  "application/ndjson",
  "application/x-ndjson",
  "ndjson",
  "application/octet-stream",
  "application/*",
  "*/*",
];

/** Whether a client accepts NDJSON, under any of its names. */
export function takesNDJSON(accept: string | undefined): boolean {
  return (
    accept === undefined ||
    accept.trim() === "" ||
    weighed(accept).some(({ name, q }) => q > 0 && ndjson.includes(name))
  );
}

/** Whether one of the entity tags in a header is `etag`.
 *  @param weakly for If-None-Match; If-Match compares strongly */
export function matchesTag(header: string, etag: string, weakly: boolean): boolean {
  if (header.trim() === "*") return true;
  return header
    .split(",")
    .map((one) => one.trim())
    .some((one) => one === etag || (weakly && one.replace(/^W\//, "") === etag));
}
