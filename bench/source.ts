/** A FHIR server for benchmarks: `node bench/source.ts`, with its options as JSON in BENCH_SOURCE. It makes its pages
 *  once, and stamps ids and times into them for each answer, so that its own speed is not what is measured. It honours
 *  windows of _lastUpdated, counts, order and next links; it has no history. GET /stats says when the first page was
 *  asked for; GET /reset forgets that. */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createSecureServer } from "node:https";
import { pretty as prettify } from "../test/sources/text.ts";
import { mixed } from "./pages.ts";

export interface SourceOptions {
  port: number;
  /** how many resources it has, by type; one second lies between two of them */
  types: Record<string, number>;
  count: number;
  pretty?: boolean;
  /** milliseconds that it waits before each page */
  delay?: number;
  tls?: { cert: string; key: string };
}

const options = JSON.parse(process.env.BENCH_SOURCE!) as SourceOptions;
const start = Date.parse("2020-01-01T00:00:00.000Z");
const origin = `http${options.tls ? "s" : ""}://127.0.0.1:${options.port}`;
const stats = { first: 0, pages: 0, bytes: 0 };

/** The entries of a page of `count` resources of a type, and the offsets of ids and times in it, and of the ends of
 *  entries. */
interface Template {
  bytes: Buffer;
  ids: number[];
  times: number[];
  ends: number[];
}

const idMark = "00000000-0000-4000-a000-000000000000";
const timeMark = "2000-01-01T00:00:00.000Z";
const templates = new Map(Object.keys(options.types).map((type) => [type, makeTemplate(type)]));
/** Room before a page's entries for the Bundle's own members and its links, which differ from page to page. */
const headRoom = 4096;
/** Whole pages that are not being sent, by type, to be used again: to copy half a megabyte for each answer would cost
 *  as much as to send it. */
const idle = new Map(Object.keys(options.types).map((type) => [type, [] as Buffer[]]));

function makeTemplate(type: string): Template {
  const all = JSON.parse(mixed(options.count * 5).compact.toString()) as {
    entry: { fullUrl: string; resource: { resourceType: string; id: string; meta: { lastUpdated: string } } }[];
  };
  const entries = all.entry.filter(({ resource }) => resource.resourceType === type).slice(0, options.count);
  const template: Template = { bytes: Buffer.alloc(0), ids: [], times: [], ends: [] };
  const parts: Buffer[] = [];
  let length = 0;
  for (let i = 0; i < options.count; i++) {
    const entry = structuredClone(entries[i % entries.length]!);
    entry.resource.id = idMark;
    entry.resource.meta.lastUpdated = timeMark;
    entry.fullUrl = `${origin}/fhir/${type}/${idMark}`;
    const text = JSON.stringify(entry);
    const bytes = Buffer.from((i ? "," : "") + (options.pretty ? prettify(text) : text));
    // the full URL holds the id, too, but only the resource's own is stamped
    template.ids.push(length + bytes.lastIndexOf(idMark));
    template.times.push(length + bytes.indexOf(timeMark));
    parts.push(bytes);
    length += bytes.length;
    template.ends.push(length);
  }
  template.bytes = Buffer.concat(parts);
  return template;
}

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const url = new URL(request.url!, origin);
  const json = (value: unknown) =>
    response.writeHead(200, { "content-type": "application/fhir+json" }).end(JSON.stringify(value));
  if (url.pathname === "/stats") return void json(stats);
  if (url.pathname === "/reset") return void json(Object.assign(stats, { first: 0, pages: 0, bytes: 0 }));
  const type = url.pathname.slice("/fhir/".length);
  if (type === "metadata")
    return void json({
      resourceType: "CapabilityStatement",
      rest: [
        {
          resource: Object.keys(options.types).map((name) => ({ type: name, interaction: [{ code: "search-type" }] })),
        },
      ],
    });
  const total = options.types[type];
  if (total === undefined) return void response.writeHead(404).end();
  const { searchParams } = url;
  let [from, till] = [0, total];
  for (const value of searchParams.getAll("_lastUpdated")) {
    const index = Math.min(total, Math.max(0, Math.ceil((Date.parse(value.slice(2)) - start) / 1000)));
    if (value.startsWith("ge")) from = index;
    else till = index;
  }
  const held = Math.max(0, till - from);
  if (searchParams.has("_summary")) return void json({ resourceType: "Bundle", type: "searchset", total: held });
  if (options.delay) await new Promise((resolve) => setTimeout(resolve, options.delay));
  stats.first ||= performance.timeOrigin + performance.now();
  const offset = Number(searchParams.get("_offset") ?? 0);
  const count = Math.min(
    options.count,
    Number(searchParams.get("_count") ?? options.count),
    Math.max(0, held - offset),
  );
  const self = `${origin}${request.url}`;
  searchParams.set("_offset", String(offset + count));
  const links = [
    { relation: "self", url: self },
    ...(offset + count < held ? [{ relation: "next", url: `${origin}${url.pathname}?${searchParams}` }] : []),
  ];
  const head = `{"resourceType":"Bundle","type":"searchset","link":${JSON.stringify(links)},"entry":[`;
  const { bytes, ids, times, ends } = templates.get(type)!;
  const whole = count === options.count;
  const buffer = (whole ? idle.get(type)!.pop() : undefined) ?? blank(bytes, count ? ends[count - 1]! : 0);
  for (let i = 0; i < count; i++) stamp(buffer, headRoom + ids[i]!, headRoom + times[i]!, from + offset + i);
  const at = headRoom - head.length;
  buffer.write(head, at, "latin1");
  const page = buffer.subarray(at);
  stats.pages++;
  stats.bytes += page.length;
  response.writeHead(200, { "content-type": "application/fhir+json", "content-length": page.length }).end(page);
  if (whole) response.once("finish", () => idle.get(type)!.push(buffer));
}

/** A new buffer with the entries of a page, and with room before them. */
function blank(entries: Buffer, length: number): Buffer {
  const buffer = Buffer.allocUnsafeSlow(headRoom + length + 2);
  entries.copy(buffer, headRoom, 0, length);
  buffer.write("]}", headRoom + length, "latin1");
  return buffer;
}

let day = -1;
let date = "";
/** Writes the id and the time of resource `number`, byte by byte: Date.toISOString would take longer than all the rest
 *  of an answer. */
function stamp(page: Buffer, id: number, time: number, number: number): void {
  digits(page, id + 24, 12, number);
  const at = start / 1000 + number;
  const second = at % 86_400;
  if (at - second !== day) {
    day = at - second;
    date = new Date(day * 1000).toISOString().slice(0, 10);
  }
  for (let i = 0; i < 10; i++) page[time + i] = date.charCodeAt(i);
  digits(page, time + 11, 2, (second / 3600) | 0);
  digits(page, time + 14, 2, ((second / 60) | 0) % 60);
  digits(page, time + 17, 2, second % 60);
}

function digits(page: Buffer, at: number, width: number, number: number): void {
  for (let i = at + width - 1; i >= at; i--) {
    page[i] = 48 + (number % 10);
    number = (number / 10) | 0;
  }
}

const listener = (request: IncomingMessage, response: ServerResponse) => void answer(request, response);
const server = options.tls ? createSecureServer(options.tls, listener) : createServer(listener);
server.keepAliveTimeout = 60_000;
server.listen(options.port, "127.0.0.1", () => process.send?.("ready"));
process.on("disconnect", () => process.exit());
