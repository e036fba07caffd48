import assert from "node:assert/strict";
import type { Page } from "../../src/scan/page.ts";
import { ScanError } from "../../src/scan/page.ts";
import { printer } from "../../src/scan/print.ts";
import { pickScanner, tableBytes } from "../../src/scan/simd.ts";
import { type Expected, type PageTable, reservedBytes, slack } from "../../src/scan/table.ts";
import { compact } from "../sources/text.ts";

const key = "000102030405060708090a0b0c0d0e0f";
const till = "2020-01-01T00:00:00.000Z";
/** What the resources of pages are expected to be, by turns. The names are among those that property.test.ts puts into
 *  pages. */
export const expectations: readonly Expected[] = [
  { type: "Patient", till, key, members: [] },
  { type: "Observation", till, key, members: ["subject", "performer", "reason"] },
  {
    type: "QuestionnaireResponse",
    till: "2020-01-01T00:00:00.001Z",
    from: "2020-01-01T00:00:00.000Z",
    key: "ff".repeat(16),
    members: ["x", "issued", "meta", "lastUpdated", "versionId"],
  },
  {
    type: "T",
    till: "2020-06-01T00:00:00.000Z",
    key,
    members: ["id", "i", "link", "entry", "resourceType", "search", "mode", "resource"],
  },
];

/** One scanner, with a memory in which it reads pages of up to 1 MiB. */
export interface Twin {
  kind: "simd" | "plain";
  table: PageTable;
  /** what was expected of the page that was read last */
  readonly expected: Expected;
  /** Puts a page into the memory, reads it, and emits all its lines. @throws ScanError */
  read(page: Uint8Array, expected?: Expected): { page: Page; lines: string[] };
  /** The kind of the error with which a page is refused, or "none".
   *  @param length cuts the page; behind the cut, its rest is still in the memory */
  kindOf(page: Uint8Array | string, length?: number, expected?: Expected): string;
}

const pageBytes = 1 << 20;
const tableAt = reservedBytes;
const pageAt = tableAt + tableBytes(pageBytes) + slack;
const outAt = pageAt + pageBytes + slack;
const canary = 0xa5;

const twin = (simd: boolean): Twin => {
  const pages = Math.ceil((outAt + pageBytes + slack) / 65_536);
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages });
  const bytes = Buffer.from(memory.buffer);
  const scanner = pickScanner(memory, simd);
  const table = scanner.table(tableAt, pageBytes);
  let around = 0;
  let expected = expectations[0]!;
  const read = (page: Uint8Array, wanted?: Expected, length = page.length) => {
    // what lies around the page may be anything, so these are bytes that could continue it
    expected = wanted ?? expectations[(around >> 1) % expectations.length]!;
    table.expect(expected);
    const filler = Buffer.from(
      [0x22, 0x5c, 0x7d, 0x20, 0x5d, 0x00, 0x2c, 0x31][around++ % 8]!.toString(16).repeat(slack),
      "hex",
    );
    filler.copy(bytes, pageAt - slack);
    bytes.set(page, pageAt);
    filler.copy(bytes, pageAt + page.length);
    table.scan(pageAt, length);
    const room = table.room(0, table.count);
    bytes.fill(canary, outAt - slack, outAt);
    bytes.fill(canary, outAt + room + slack, outAt + room + 2 * slack);
    const end = table.emit(0, table.count, outAt);
    assert(end - outAt <= room, "more than room");
    assert(
      bytes.subarray(outAt - slack, outAt).every((byte) => byte === canary),
      "written before the lines",
    );
    assert(
      bytes.subarray(outAt + room + slack, outAt + room + 2 * slack).every((byte) => byte === canary),
      "written far behind the lines",
    );
    assert.equal(Buffer.compare(bytes.subarray(pageAt, pageAt + page.length), page), 0, "the page was written to");
    const lines = bytes.toString("utf8", outAt, end).split("\n");
    assert.equal(lines.pop(), "");
    return { page: table.page(), lines };
  };
  const kindOf = (page: Uint8Array | string, length?: number, wanted?: Expected) => {
    try {
      read(typeof page === "string" ? Buffer.from(page) : page, wanted, length);
      return "none";
    } catch (error) {
      assert(error instanceof ScanError, String(error));
      return error.kind;
    }
  };
  return {
    kind: scanner.kind,
    table,
    get expected() {
      return expected;
    },
    read,
    kindOf,
  };
};

export const twins: readonly Twin[] = [twin(true), twin(false)];
export const [simd, plain] = twins as [Twin, Twin];

interface Found {
  next: string | undefined;
  self: string | undefined;
  total: number | undefined;
  entries: {
    type: string;
    id: string;
    lastUpdated: string | undefined;
    versionId: string | undefined;
    mode: string | undefined;
  }[];
  resources: unknown[];
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);
const text = (value: unknown) => (typeof value === "string" ? value : undefined);
const list = (value: unknown) => (Array.isArray(value) ? value.filter(isObject) : []);
const field = (value: unknown, name: string) => (isObject(value) ? text(value[name]) : undefined);

/** What JSON.parse finds in a page; undefined when it is no Bundle. @throws SyntaxError */
export function parsed(page: Uint8Array): Found | undefined {
  const bundle = JSON.parse(
    Buffer.from(page)
      .toString()
      .replace(/^\uFEFF/, ""),
  ) as unknown;
  if (!isObject(bundle) || bundle.resourceType !== "Bundle") return undefined;
  const links = list(bundle.link);
  const url = (relation: string) => text(links.findLast((link) => link.relation === relation)?.url);
  const entries = list(bundle.entry).filter(({ resource }) => isObject(resource));
  return {
    next: url("next"),
    self: url("self"),
    total: Number.isSafeInteger(bundle.total) ? (bundle.total as number) : undefined,
    entries: entries.map(({ resource, search }) => ({
      type: field(resource, "resourceType") ?? "",
      id: field(resource, "id") ?? "",
      lastUpdated: field((resource as { meta?: unknown }).meta, "lastUpdated"),
      versionId: field((resource as { meta?: unknown }).meta, "versionId"),
      mode: field(search, "mode"),
    })),
    resources: entries.map(({ resource }) => resource),
  };
}

/** Demands that a twin finds in a valid search page what JSON.parse finds, and that its lines are the bytes of the
 *  page. */
export function compare(twin: Twin, page: Buffer, wanted?: Expected): void {
  const { kind, table } = twin;
  const expected = parsed(page)!;
  const { page: found, lines } = twin.read(page, wanted);
  assert.deepEqual(
    { next: found.next, self: found.self, total: found.total },
    { next: expected.next, self: expected.self, total: expected.total },
  );
  const rows = found.entries.map(({ type, id, lastUpdated, mode }, row) => ({
    type,
    id,
    lastUpdated,
    versionId: table.versionId(row),
    mode,
  }));
  assert.deepEqual(rows, expected.entries, kind);
  assert.equal(lines.length, rows.length);
  for (const [row, { start, end, compact: isCompact }] of found.entries.entries()) {
    const raw = page.toString("utf8", start, end);
    const line = compact(raw);
    assert.equal(lines[row], line, kind);
    assert.equal(isCompact, raw.length === line.length);
    assert.deepEqual(JSON.parse(line), expected.resources[row]);
    assert.equal(table.resource(row).toString(), raw);
  }
  checkRowsOf(twin, expected, page);
}

/** Demands that the table has right what was expected of the page that was read last: members, fingerprints, plain
 *  rows. */
function checkRowsOf({ kind, table, expected }: Twin, { entries, resources }: Found, page: Buffer): void {
  assert.equal(Buffer.compare(table.bytes, page), 0);
  for (const [row, resource] of resources.entries())
    for (const [index, name] of expected.members.entries()) {
      const span = table.member(row, index);
      assert.equal(span !== undefined, Object.hasOwn(resource as object, name), `${kind}: ${name}`);
      if (!span) continue;
      const text = page.toString("utf8", span.from, span.to);
      assert.equal(text.trim(), text);
      assert.deepEqual(JSON.parse(text), (resource as Record<string, unknown>)[name]);
    }
  assert.equal(table.member(0, expected.members.length), undefined);

  const print = printer(expected.key);
  const memory = table.bytes.buffer;
  for (const from of [0, entries.length >> 1]) {
    const prints = Buffer.from(memory, outAt, (entries.length - from) * 16 + 16).fill(canary);
    table.prints(from, entries.length, outAt);
    const wanted = [...entries.slice(from).map(({ id }) => print(id).toString("hex")), "a5".repeat(16)];
    assert.equal(prints.toString("hex"), wanted.join(""), kind);
  }

  const plain = entries.map(
    ({ mode, type, id, lastUpdated = "" }) =>
      (mode === undefined || mode === "match") &&
      type === expected.type &&
      /^[A-Za-z0-9.-]{1,64}$/.test(id) &&
      /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/.test(lastUpdated) &&
      lastUpdated < expected.till &&
      lastUpdated >= (expected.from ?? ""),
  );
  for (let from = 0; from <= entries.length; from++)
    for (const to of new Set([from, entries.length])) {
      const found = table.plainRows(from, to);
      const odd = plain.findIndex((is, row) => !is && row >= from && row < to);
      // a row that is spelled with escapes may also count as not plain
      const coded = found < to && page.includes("\\");
      assert(
        coded ? found <= (odd < 0 ? to : odd) && found >= from : found === (odd < 0 ? to : odd),
        `${kind}: row ${found}, not ${odd} of ${from}-${to}`,
      );
    }
}
