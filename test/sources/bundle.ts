import type { Fault } from "./faults.ts";
import type { Current, Version } from "./store.ts";
import { subset } from "./text.ts";

export interface Page {
  type: "searchset" | "history";
  /** The URL of the search or history that this page answers. */
  base: string;
  self: string;
  next?: string | undefined;
  total?: number | undefined;
  entries: readonly Version[];
  /** How the entries of a history are written; absent: the page is one of a search. */
  history?: { deletionsHoldResources: boolean | undefined };
  elements?: ReadonlySet<string> | undefined;
  linksLast?: boolean | undefined;
}

/** The text of a page. Resources are copied as bytes. */
export function bundle(page: Page, faults: readonly Fault[]): Buffer {
  const find = <K extends Fault["kind"]>(kind: K) =>
    faults.find((fault): fault is Extract<Fault, { kind: K }> => fault.kind === kind);
  const short = find("shortPage");
  const entries = short ? page.entries.slice(0, Math.max(0, page.entries.length - (short.missing ?? 1))) : page.entries;
  const links = [
    { relation: "self", url: page.self },
    ...(page.next && !find("noNext") ? [{ relation: "next", url: page.next }] : []),
  ];
  const head = `{"resourceType":"Bundle","type":"${page.type}"${page.total === undefined ? "" : `,"total":${page.total}`}`;
  const link = `,"link":${JSON.stringify(links)}`;
  const parts: Buffer[] = [Buffer.from(page.linksLast ? head : head + link)];
  const texts = entries.map((version) =>
    page.history ? historyEntry(page, page.history, version) : matchEntry(page, version as Current),
  );
  if (find("wrongType")) {
    const type = /\bBasic\b/.test(page.self) ? "Library" : "Basic";
    texts.splice(1, 0, [
      Buffer.from(
        `{"fullUrl":"${page.base}/${type}/stray","resource":{"resourceType":"${type}","id":"stray"},"search":{"mode":"match"}}`,
      ),
    ]);
  }
  if (find("outcome"))
    texts.push([
      Buffer.from(`{"resource":${outcome("informational", "A remark, not data")},"search":{"mode":"outcome"}}`),
    ]);
  if (find("badToken") && texts.length > 0)
    texts[0] = texts[0]!.map((part) => Buffer.from(part.toString().replace(/^\{/, '{"x":.5 1,')));
  if (find("garbage"))
    texts.splice(1, 0, [Buffer.from('{"resource":{"resourceType":"Basic","id":oops},"search":{"mode":"match"}}')]);
  for (const [n, text] of texts.entries()) parts.push(Buffer.from(n ? "," : ',"entry":['), ...text);
  parts.push(Buffer.from(`${texts.length ? "]" : ""}${page.linksLast ? link : ""}}`));
  return Buffer.concat(parts);
}

function matchEntry({ base, elements }: Page, { type, id, bytes }: Current): Buffer[] {
  const resource = elements ? Buffer.from(subset(bytes.toString(), elements)) : bytes;
  return [
    Buffer.from(`{"fullUrl":"${base}/${type}/${id}","resource":`),
    resource,
    Buffer.from(',"search":{"mode":"match"}}'),
  ];
}

function historyEntry(
  { base }: Page,
  { deletionsHoldResources }: NonNullable<Page["history"]>,
  { type, id, versionId, lastUpdated, bytes, isFirst }: Version,
): Buffer[] {
  const at = new Date(lastUpdated).toISOString();
  const fullUrl = `{"fullUrl":"${base}/${type}/${id}"`;
  const response = (status: string, more = "") =>
    `"response":{"status":"${status}","etag":"W/\\"${versionId}\\""${more}}}`;
  if (!bytes) {
    const request = `,"request":{"method":"DELETE","url":"${type}/${id}"},`;
    // as on HAPI, the entry of a deletion has neither a resource nor the time at which it happened
    if (!deletionsHoldResources) return [Buffer.from(fullUrl + request + response("204 No Content"))];
    const meta = `{"versionId":"${versionId}","lastUpdated":"${at}"}`;
    const left = `,"resource":{"resourceType":"${type}","id":"${id}","meta":${meta}}`;
    return [Buffer.from(fullUrl + left + request + response("204 No Content", `,"lastModified":"${at}"`))];
  }
  const made = isFirst || versionId === "1" ? "201 Created" : "200 OK";
  return [
    Buffer.from(`${fullUrl},"resource":`),
    bytes,
    Buffer.from(`,"request":{"method":"PUT","url":"${type}/${id}"},${response(made, `,"lastModified":"${at}"`)}`),
  ];
}

/** Text of an OperationOutcome with one issue. */
export function outcome(
  severity: "error" | "warning" | "informational",
  diagnostics: string,
  code = "processing",
): string {
  return JSON.stringify({ resourceType: "OperationOutcome", issue: [{ severity, code, diagnostics }] });
}
