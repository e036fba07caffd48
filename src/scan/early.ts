import { ScanError } from "./page.ts";
import { readLinks } from "./plain.ts";
import { stopReading, Walker } from "./walker.ts";

/** The next link of a search page, from its first bytes, cut anywhere: known when `link` stands before `entry`, as FHIR orders them, and is whole. undefined:
 *  not known yet, or there is none. It is a guess, since what follows is not seen (`link` may stand twice): what the whole page says counts. */
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

/** The target of the first link of relation `next` in an HTTP `Link` header, as sent (RFC 8288). undefined: there is none, or the header is not as the RFC has it.
 *  @param value several headers count as one list */
export function linkHeaderNext(value: string | string[] | undefined): string | undefined {
  const text = typeof value === "object" ? value.join(",") : (value ?? "");
  let at = 0;
  for (;;) {
    at = behind(text, at, /[\s,]*/y);
    const end = text[at] === "<" ? text.indexOf(">", at) : -1;
    if (end < 0) return undefined;
    const target = text.slice(at + 1, end).trim();
    at = end + 1;
    let relation: string | undefined;
    let elsewhere = false;
    for (;;) {
      parameter.lastIndex = at;
      const [whole, name, quoted, bare] = parameter.exec(text) ?? [];
      if (!whole) break;
      at += whole.length;
      // of two the first counts (section 3.3)
      if (name?.toLowerCase() === "rel") relation ??= quoted?.replace(/\\(.)/gs, "$1") ?? bare ?? "";
      // the link is another resource's (section 3.2)
      if (name?.toLowerCase() === "anchor") elsewhere = true;
    }
    at = behind(text, at, /\s*/y);
    if (at < text.length && text[at] !== ",") return undefined;
    if (!elsewhere && relation?.toLowerCase().split(/\s+/).includes("next")) return target;
    if (at >= text.length) return undefined;
  }
}

/** `;` and a parameter: its name, its value as a quoted string or as a token. Each character fits one way: no backtracking. */
const parameter = /\s*;\s*(?:([^\s"=;,<>]+)\s*(?:=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s"=;,<>]+)))?)?/sy;

function behind(text: string, at: number, pattern: RegExp): number {
  pattern.lastIndex = at;
  return at + (pattern.exec(text)?.[0].length ?? 0);
}
