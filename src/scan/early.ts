import { ScanError } from "./page.ts";
import { readLinks } from "./plain.ts";
import { stopReading, Walker } from "./walker.ts";

/** Guesses the next link of a search page from the page's first bytes, so that the next page can be asked for before
 *  this one has arrived. It is found where `link` comes before `entry`, as FHIR orders them, and is whole. It is a
 *  guess, because the rest is not there yet, and `link` may come twice: the link of the whole page counts.
 *  @param head the first bytes, which may end anywhere
 *  @returns undefined when the link is not known yet, or there is none */
export function earlyNext(head: Uint8Array): string | undefined {
  const walker = new Walker(head);
  if (head[0] === 0xef && head[1] === 0xbb && head[2] === 0xbf) walker.at = 3;
  let isRead = false;
  const links: { next: string | undefined; self: string | undefined } = { next: undefined, self: undefined };
  try {
    walker.space();
    walker.members((key) => {
      if (key === "link") {
        readLinks(walker, links);
        isRead = true;
        return stopReading;
      }
      if (key === "entry" || (key === "resourceType" && walker.text() !== "Bundle")) return stopReading;
      if (key !== "resourceType") walker.value(2);
      return undefined;
    });
  } catch (error) {
    if (!(error instanceof ScanError)) throw error;
  }
  return isRead ? links.next : undefined;
}

/** The target of the first link of relation `next` in an HTTP `Link` header, as sent (RFC 8288).
 *  @param value the header; several headers count as one list
 *  @returns undefined when there is no such link, or the header does not follow the RFC */
export function linkHeaderNext(value: string | string[] | undefined): string | undefined {
  const text = typeof value === "object" ? value.join(",") : (value ?? "");
  for (let at = 0; ; ) {
    at = behind(text, at, /[\s,]*/y);
    const end = text[at] === "<" ? text.indexOf(">", at) : -1;
    if (end < 0) return undefined;
    const target = text.slice(at + 1, end).trim();
    const link = readParameters(text, end + 1);
    at = behind(text, link.end, /\s*/y);
    if (at < text.length && text[at] !== ",") return undefined;
    if (link.isNext) return target;
    if (at >= text.length) return undefined;
  }
}

/** Reads the parameters of one link, from `at` on.
 *  @returns the offset behind them, and whether the link leads to the next page */
function readParameters(text: string, at: number): { end: number; isNext: boolean } {
  let relation: string | undefined;
  let isAnchored = false;
  for (;;) {
    parameter.lastIndex = at;
    const [all, name, quoted, bare] = parameter.exec(text) ?? [];
    if (!all) break;
    at += all.length;
    // where `rel` is given twice, the first counts (section 3.3)
    if (name?.toLowerCase() === "rel") relation ??= quoted?.replace(/\\(.)/gs, "$1") ?? bare ?? "";
    // a link with an anchor is a link of another resource than the page (section 3.2)
    if (name?.toLowerCase() === "anchor") isAnchored = true;
  }
  return { end: at, isNext: !isAnchored && relation?.toLowerCase().split(/\s+/).includes("next") === true };
}

/** Matches `;` and a parameter: its name, and its value as a quoted string or as a token. Each character can match in
 *  one way only, so a hostile header cannot make it backtrack. */
const parameter = /\s*;\s*(?:([^\s"=;,<>]+)\s*(?:=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s"=;,<>]+)))?)?/sy;

/** The offset behind what `pattern` matches at `at`; `at` where it matches nothing. */
function behind(text: string, at: number, pattern: RegExp): number {
  pattern.lastIndex = at;
  return at + (pattern.exec(text)?.[0].length ?? 0);
}
