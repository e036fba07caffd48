import { isUtf8 } from "node:buffer";
import { type Entry, type Page, ScanError } from "./page.ts";
import { backslash, isSpace, quote, Walker } from "./walker.ts";

/** Reads a FHIR search page without building objects. The whole JSON grammar is checked, but only the values that
 *  `Page` names are decoded. Where a member comes twice the last one counts, as with JSON.parse.
 *  @throws ScanError */
export function scanPage(bytes: Uint8Array): Page {
  if (!isUtf8(bytes)) throw new ScanError("syntax", "the page is not UTF-8");
  const walker = new Walker(bytes);
  if (bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf) walker.at = 3;
  const page: Page = { entries: [], next: undefined, self: undefined, total: undefined };
  let type: string | undefined;
  walker.space();
  walker.objectOr(1, (key) => {
    if (key === "resourceType") type = walker.text();
    else if (key === "total") page.total = walker.integer();
    else if (key === "link") readLinks(walker, page);
    else if (key === "entry") readEntries(walker, page);
    else walker.value(2);
  });
  walker.space();
  if (walker.at < bytes.length) throw new ScanError("syntax", "the page goes on after its end");
  if (type !== "Bundle")
    throw new ScanError(
      "notBundle",
      type
        ? `the answer is a ${/^[A-Za-z]{1,64}$/.test(type) ? type : "resource"}, not a Bundle`
        : "the answer is not a FHIR resource",
    );
  return page;
}

/** Copies one resource to `out` at `at`, without the white space outside strings.
 *  @returns the offset behind it; it takes at most `entry.end - entry.start` bytes */
export function copyResource(
  bytes: Uint8Array,
  entry: Pick<Entry, "start" | "end" | "compact">,
  out: Uint8Array,
  at: number,
): number {
  if (entry.compact) {
    out.set(bytes.subarray(entry.start, entry.end), at);
    return at + entry.end - entry.start;
  }
  let inString = false;
  for (let i = entry.start; i < entry.end; i++) {
    const byte = bytes[i]!;
    if (inString) {
      out[at++] = byte;
      if (byte === backslash) out[at++] = bytes[++i]!;
      else if (byte === quote) inString = false;
    } else if (!isSpace(byte)) {
      out[at++] = byte;
      if (byte === quote) inString = true;
    }
  }
  return at;
}

/** Where the value of a resource's member lies. The last one, if there are several.
 *  @param start offset of the resource, which must have been read as JSON before
 *  @returns offsets of the value's first byte and behind its last */
export function memberSpan(bytes: Uint8Array, start: number, name: string): { from: number; to: number } | undefined {
  const walker = new Walker(bytes);
  walker.at = start;
  let span: { from: number; to: number } | undefined;
  walker.members((key) => {
    const from = walker.at;
    walker.value(5);
    if (key === name) span = { from, to: walker.at };
  });
  return span;
}

/** Reads the value of a Bundle's `link`. */
export function readLinks(walker: Walker, page: Pick<Page, "next" | "self">): void {
  page.next = page.self = undefined;
  walker.elements(() => {
    let relation: string | undefined;
    let url: string | undefined;
    walker.objectOr(3, (key) => {
      if (key === "relation") relation = walker.text();
      else if (key === "url") url = walker.text();
      else walker.value(4);
    });
    if (relation === "next") page.next = url;
    else if (relation === "self") page.self = url;
  });
}

function readEntries(walker: Walker, page: Page): void {
  page.entries = [];
  walker.elements(() => {
    let entry: Entry | undefined;
    let mode: string | undefined;
    walker.objectOr(3, (key) => {
      if (key === "resource") entry = readResource(walker);
      else if (key === "search") {
        mode = undefined;
        walker.objectOr(4, (name) => {
          if (name === "mode") mode = walker.text();
          else walker.value(5);
        });
      } else walker.value(4);
    });
    if (entry) {
      entry.mode = mode;
      page.entries.push(entry);
    }
  });
}

function readResource(walker: Walker): Entry | undefined {
  const entry: Entry = {
    start: walker.at,
    end: 0,
    compact: true,
    type: "",
    id: "",
    lastUpdated: undefined,
    mode: undefined,
  };
  const spaces = walker.spaces;
  const isObject = walker.objectOr(4, (key) => {
    if (key === "resourceType") entry.type = walker.text() ?? "";
    else if (key === "id") entry.id = walker.text() ?? "";
    else if (key === "meta") {
      entry.lastUpdated = undefined;
      walker.objectOr(5, (name) => {
        if (name === "lastUpdated") entry.lastUpdated = walker.text();
        else walker.value(6);
      });
    } else walker.value(5);
  });
  if (!isObject) return undefined;
  entry.end = walker.at;
  entry.compact = walker.spaces === spaces;
  return entry;
}
