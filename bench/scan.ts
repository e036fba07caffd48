/** `node bench/scan.ts`: from pages to NDJSON on one core, without I/O. Every method is given the page's bytes in
 *  memory, finds the next link, compares each resource's type, finds its id, and writes its line into one buffer. To
 *  find an id means to have its bytes, as a span or as a string; the bars were set for that (15 compact, 10 pretty, on
 *  the mix). Another column makes strings of all ids, as JSON.parse does. */
import assert from "node:assert/strict";
import { CompartmentRows, PatientCompartment, PatientSet } from "../src/fhir/compartment.ts";
import { ServerNames } from "../src/fhir/references.ts";
import { copyResource, scanPage } from "../src/scan/plain.ts";
import { printer } from "../src/scan/print.ts";
import { pickScanner, tableBytes } from "../src/scan/simd.ts";
import { type Expected, reservedBytes, slack } from "../src/scan/table.ts";
import { type BenchPage, mixed, observations, patients } from "./pages.ts";

const pageBytes = 4 << 20;
const pageAt = reservedBytes + tableBytes(pageBytes) + slack;
const outAt = pageAt + pageBytes + slack;
const memoryPages = Math.ceil((outAt + pageBytes + slack) / 65_536);
const memory = new WebAssembly.Memory({ initial: memoryPages, maximum: memoryPages });
const bytes = Buffer.from(memory.buffer);
const out = bytes.subarray(outAt);
const table = pickScanner(memory).table(reservedBytes, pageBytes);
/** What the methods find: it is used, so that they cannot skip finding it. */
const seen = { next: "" as string | undefined, ids: 0, observations: 0 };
/** all resources of the pages are older */
const farFuture = "2100-01-01T00:00:00.000Z";

/** Counts the Observations as the worker does, which asks for the rows that are plainly of its type, a run at a
 *  time. */
function countObservations(): number {
  const { count } = table;
  let found = 0;
  for (let row = 0; row < count; ) {
    const end = table.plainRows(row, count);
    found += end - row;
    row = end + 1;
  }
  return found;
}

/** Each writes the lines of the page, which lies at `pageAt`, to `out`, and returns their length. */
const methods: Record<string, (page: Buffer) => number> = {
  scanner: (page) => {
    table.scan(pageAt, page.length);
    seen.next = table.next;
    seen.observations += countObservations();
    return table.emit(0, table.count, outAt) - outAt;
  },
  "and id strings": (page) => {
    table.scan(pageAt, page.length);
    seen.next = table.next;
    seen.observations += countObservations();
    for (let row = 0; row < table.count; row++) seen.ids += table.id(row).length;
    return table.emit(0, table.count, outAt) - outAt;
  },
  "plain twin": (page) => {
    const { entries, next } = scanPage(page);
    seen.next = next;
    let at = 0;
    for (const entry of entries) {
      if (entry.type === "Observation") seen.observations++;
      seen.ids += entry.id.length;
      at = copyResource(page, entry, out, at);
      out[at++] = 0x0a;
    }
    return at;
  },
  "parse + stringify": (page) => {
    const bundle = JSON.parse(page.toString()) as {
      link: { relation: string; url: string }[];
      entry: { resource: { resourceType: string; id: string } }[];
    };
    seen.next = bundle.link.find(({ relation }) => relation === "next")?.url;
    let at = 0;
    for (const { resource } of bundle.entry) {
      if (resource.resourceType === "Observation") seen.observations++;
      seen.ids += resource.id.length;
      at += out.write(`${JSON.stringify(resource)}\n`, at);
    }
    return at;
  },
};

/** Reads pages again and again for about `ms` milliseconds. @returns MB of pages per second */
function rate(method: (page: Buffer) => number, pages: readonly Buffer[], ms: number): number {
  let done = 0;
  let spent = 0;
  for (let n = 0; spent < ms; n++) {
    const page = pages[n % pages.length]!;
    // not measured: a worker receives the page there
    bytes.set(page, pageAt);
    const place = bytes.subarray(pageAt, pageAt + page.length);
    const from = performance.now();
    method(place);
    spent += performance.now() - from;
    done += page.length;
  }
  return done / spent / 1000;
}

const median = (values: number[]) => values.toSorted((a, b) => a - b)[values.length >> 1]!;

/** MB/s of each method, as medians of interleaved rounds, so that whatever else the machine does slows all of them
 *  alike. */
function measure(pages: readonly Buffer[], rounds: number, ms: number): Record<string, number> {
  const rates = Object.fromEntries(Object.keys(methods).map((name) => [name, [] as number[]]));
  for (let round = -2; round < rounds; round++)
    for (const [name, method] of Object.entries(methods)) {
      const found = rate(method, pages, ms);
      // two rounds to warm up
      if (round >= 0) rates[name]!.push(found);
    }
  return Object.fromEntries(Object.entries(rates).map(([name, found]) => [name, median(found)]));
}

/** Checks that all methods write the same resources. Their values are compared, since JSON.stringify may spell numbers
 *  and escapes in its own way. */
function checkSame(page: Buffer): void {
  bytes.set(page, pageAt);
  const place = bytes.subarray(pageAt, pageAt + page.length);
  const results = Object.values(methods).map((method) => {
    const lines = out.toString("utf8", 0, method(place)).trimEnd().split("\n");
    return { next: seen.next, resources: lines.map((line) => JSON.parse(line) as unknown) };
  });
  for (const result of results) assert.deepEqual(result, results[0]);
  assert(!table.handedOver);
}

export interface ScanRatios {
  scannerVsParseCompact: number;
  scannerVsParsePretty: number;
}

/** Prints MB/s of each method. @param print takes the table line by line */
export function benchScan(print: (line: string) => void = () => {}, rounds = 9, ms = 60): ScanRatios {
  const make = (of: (n: number) => BenchPage) => Array.from({ length: 8 }, (_, n) => of(n));
  const sets: Record<string, BenchPage[]> = {
    "mix of 300": make((n) => mixed(300, n * 300)),
    "100 Observations": make((n) => observations(100, n * 100)),
    "1000 Observations": make((n) => observations(1000, n * 1000)),
    "400 Patients": make((n) => patients(400, n * 400)),
  };
  const ratios: Record<string, number> = {};
  table.expect({ type: "Observation", till: farFuture, key: "0f".repeat(16), members: [] });
  print(
    `${"MB/s of page bytes".padEnd(28)}${Object.keys(methods)
      .map((name) => name.padStart(20))
      .join("")}${"ratio".padStart(8)}${"with strings".padStart(14)}`,
  );
  for (const [name, set] of Object.entries(sets))
    for (const spelling of ["compact", "pretty"] as const) {
      const pages = set.map((page) => page[spelling]);
      checkSame(pages[0]!);
      const rates = measure(pages, rounds, ms);
      const ratio = rates.scanner! / rates["parse + stringify"]!;
      const strings = rates["and id strings"]! / rates["parse + stringify"]!;
      ratios[`${name}, ${spelling}`] = ratio;
      const columns = Object.values(rates).map((mb) => mb.toFixed(0).padStart(20));
      print(
        `${`${name}, ${spelling}`.padEnd(28)}${columns.join("")}${ratio.toFixed(1).padStart(8)}${strings.toFixed(1).padStart(14)}`,
      );
    }
  return { scannerVsParseCompact: ratios["mix of 300, compact"]!, scannerVsParsePretty: ratios["mix of 300, pretty"]! };
}

/** Prints what the worker's other questions about a page's rows take, in nanoseconds per row, as medians of rounds over
 *  8 pages. The column `members` is how much longer a scan takes when it looks for the compartment's members; the other
 *  columns come on top of that.
 *  @param print takes the table line by line */
export function benchRows(print: (line: string) => void, rounds = 41): void {
  const base = new URL("https://fhir.example.org/r4/");
  const cohort = new PatientSet(
    Array.from({ length: 5000 }, (_, n) => `${String(n).padStart(8, "0")}-0000-4000-a000-000000000000`),
  );
  const expected = (type: string, members: string[]): Expected => ({
    type,
    till: farFuture,
    key: "0f".repeat(16),
    members,
    base: base.href,
  });
  const print16 = printer("0f".repeat(16));
  let found = 0;
  const every = (visit: (row: number) => number | boolean) => () => {
    for (let row = 0; row < table.count; row++) found += Number(visit(row));
  };
  const all = new PatientCompartment("R4", new ServerNames(base));
  const asked = (type: string): Record<string, () => void> => {
    const compartment = new CompartmentRows(type, all);
    return {
      plainRows: () => assert.equal(table.plainRows(0, table.count), table.count),
      prints: () => table.prints(0, table.count, outAt),
      "prints without wasm": every((row) => print16(table.id(row)).length),
      "in any compartment": every((row) => compartment.has(table, row) === "in"),
      "in a cohort's": every((row) => compartment.has(table, row, cohort) === "in"),
      "JSON.parse and patientsOf": every((row) => all.patientsOf(JSON.parse(table.resource(row).toString())).size),
    };
  };
  print(
    `\n${"ns per row".padEnd(28)}${["scan", "members", ...Object.keys(asked(""))].map((name) => name.padStart(name.length + 2)).join("")}`,
  );
  for (const [name, type, make] of [
    ["1000 Observations", "Observation", (n: number) => observations(1000, n * 1000)],
    ["400 Patients", "Patient", (n: number) => patients(400, n * 400)],
  ] as const)
    for (const spelling of ["compact", "pretty"] as const) {
      const pages = Array.from({ length: 8 }, (_, n) => make(n)[spelling]);
      const figures: number[][] = [];
      for (let round = -2; round < rounds; round++) {
        let column = 0;
        const add = (members: string[], ask: (() => void) | undefined) => {
          let [scans, asks, rows] = [0, 0, 0];
          table.expect(expected(type, members));
          for (const page of pages) {
            bytes.set(page, pageAt);
            const from = performance.now();
            table.scan(pageAt, page.length);
            const scanned = performance.now();
            ask?.();
            asks += performance.now() - scanned;
            scans += scanned - from;
            rows += table.count;
          }
          if (round >= 0) (figures[column] ??= []).push(((ask ? asks : scans) / rows) * 1e6);
          column++;
        };
        add([], undefined);
        add(all.membersOf(type), undefined);
        for (const ask of Object.values(asked(type))) add(all.membersOf(type), ask);
      }
      const [scan, scanWith, ...rest] = figures.map(median) as [number, number, ...number[]];
      const names = ["scan", "members", ...Object.keys(asked(""))];
      const columns = [scan, scanWith - scan, ...rest].map((ns, n) => ns.toFixed(0).padStart(names[n]!.length + 2));
      print(`${`${name}, ${spelling}`.padEnd(28)}${columns.join("")}`);
    }
  assert(found > 0);
}

if (import.meta.main) {
  const ratios = benchScan(console.log);
  benchRows(console.log);
  console.log(JSON.stringify(ratios));
}
