import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { type Random, random } from "../sources/random.ts";
import { propertyRuns } from "../tools/sample.ts";
import { compare, parsed, plain, simd, twins } from "./oracle.ts";

const words = [
  "resource",
  "resourceType",
  "id",
  "meta",
  "entry",
  "link",
  "lastUpdated",
  "versionId",
  "search",
  "mode",
  "x",
  "reason",
  "issued",
  "i",
  "Yy_",
];
const texts = [
  ...words,
  "",
  "Bundle",
  "match",
  "{",
  "}]",
  '"',
  '\\"id":',
  "\\",
  "a  b",
  "\n",
  "\u0001",
  "é",
  "👩",
  "\uFEFF",
  "\ud800",
  "/",
  "0123456789abcdef",
  "x".repeat(63),
];
const names = [...words, "", "é", "}]", "a  b", "match", "0123456789abcdef", "x".repeat(63)];
const numbers = ["0", "-0", "1.50", "1E+2", "12345678901234567890", "-2.5e-3"];

/** Writes JSON as servers do, and as they might: in any order, with any white space and spelling, with members
 *  twice. */
class Speller {
  readonly #r: Random;
  /** chooses the values, and their spellings */
  readonly #leaf: Random;
  readonly #spaces: number;
  readonly #escapes: number;
  constructor(r: Random, leaf = r) {
    this.#r = r;
    this.#leaf = leaf;
    this.#spaces = r.pick([0, 0, 0.1, 0.7]);
    this.#escapes = r.pick([0, 0, 0, 0.02, 0.3]);
  }

  gap(): string {
    if (!this.#r.chance(this.#spaces)) return "";
    return this.#r.pick([" ", "\n", "\t", "\r\n", "\n            "]).repeat(this.#r.chance(0.02) ? 40 : 1);
  }
  text(value: string): string {
    const escaped = (unit: string) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`;
    const inside = JSON.stringify(value).slice(1, -1);
    // replaces single units, but none that is part of an escape sequence
    return `"${inside.replace(/\\u....|\\.|[\ud800-\udbff][\udc00-\udfff]|./gs, (unit) => (unit.length === 1 && this.#leaf.chance(this.#escapes) ? escaped(unit) : unit))}"`;
  }
  /** A name; rarely with escapes, because of which the page is handed over to the twin. */
  name(): string {
    return this.#r.pick(this.#r.chance(0.01) ? texts : names);
  }
  object(members: [string, string][]): string {
    const r = this.#r;
    const all = r.chance(0.3) ? [...members].sort(() => r.next() - 0.5) : members;
    const list = r.chance(0.05) && all.length > 0 ? [...all, r.pick(all)] : all;
    const written = list.map(
      ([name, value]) =>
        `${this.gap()}${r.chance(0.05) ? this.text(name) : JSON.stringify(name)}${this.gap()}:${this.gap()}${value}${this.gap()}`,
    );
    return `{${written.join(",") || this.gap()}}`;
  }
  list(items: string[]): string {
    return `[${items.map((item) => `${this.gap()}${item}${this.gap()}`).join(",") || this.gap()}]`;
  }
  value(depth: number): string {
    const r = this.#r;
    const kind = r.int(depth > 0 ? 7 : 5);
    if (kind < 3) return this.text(r.pick(texts) + (r.chance(0.3) ? r.pick(texts) : ""));
    if (kind === 3) return r.pick(numbers);
    if (kind === 4) return r.pick(["true", "false", "null", "{}", "[]"]);
    const many = r.int(4);
    if (kind === 5) return this.list(Array.from({ length: many }, () => this.value(depth - 1)));
    return this.object(Array.from({ length: many }, () => [this.name(), this.value(depth - 1)]));
  }
  resource(): string {
    const r = this.#r;
    const members: [string, string][] = [];
    const add = (chance: number, name: string, value: () => string) => {
      if (r.chance(chance)) members.push([name, r.chance(0.9) ? value() : this.value(2)]);
    };
    const id = () => this.text(this.#leaf.pick(["a", "p-1.2", "01234567-89ab-4cde-a123-0123456789ab", "é", '"']));
    add(0.9, "resourceType", () => this.text(r.pick(["Patient", "Observation", "QuestionnaireResponse"])));
    add(0.9, "id", id);
    add(0.9, "meta", () => this.meta());
    for (let n = r.int(8); n > 0; n--) members.push([this.name(), this.value(4)]);
    return this.object(members);
  }
  meta(): string {
    const r = this.#r;
    const members: [string, string][] = [];
    if (r.chance(0.9)) members.push(["versionId", this.text(String(this.#leaf.int(20)))]);
    if (r.chance(0.9))
      members.push(["lastUpdated", r.chance(0.9) ? this.text("2020-01-01T00:00:00.000Z") : this.value(1)]);
    for (let n = r.int(3); n > 0; n--) members.push([r.pick(["source", "profile", "tag", ...words]), this.value(2)]);
    return this.object(members);
  }
  entry(): string {
    const r = this.#r;
    const members: [string, string][] = [];
    if (r.chance(0.9)) members.push(["fullUrl", this.text(`http://x/${"y".repeat(this.#leaf.int(70))}`)]);
    if (r.chance(0.95)) members.push(["resource", r.chance(0.95) ? this.resource() : this.value(2)]);
    if (r.chance(0.9))
      members.push([
        "search",
        r.chance(0.9)
          ? this.object([["mode", this.text(r.pick(["match", "include", "outcome", "other"]))]])
          : this.value(2),
      ]);
    if (r.chance(0.1)) members.push([r.pick(words), this.value(2)]);
    return this.object(members);
  }
  entries(): string[] {
    const r = this.#r;
    const many = r.int(7);
    if (r.chance(0.4)) return Array.from({ length: many }, () => this.entry());
    // As servers write entries: in one of two layouts, where all choices but the values are the same.
    const layouts = [r.int(1e9), r.int(1e9)] as const;
    return Array.from({ length: many }, () => new Speller(random(layouts[r.chance(0.9) ? 0 : 1]), r).entry());
  }
  page(): string {
    const r = this.#r;
    const members: [string, string][] = [["resourceType", this.text("Bundle")]];
    if (r.chance(0.3)) members.push(["total", r.chance(0.8) ? String(r.int(1000)) : this.value(1)]);
    const link = () =>
      this.object([
        ["relation", this.text(r.pick(["next", "self", "previous"]))],
        ["url", this.text(`http://x?${r.pick(texts)}`)],
      ]);
    if (r.chance(0.7)) members.push(["link", this.list(Array.from({ length: r.int(3) }, link))]);
    if (r.chance(0.1)) members.push([r.pick(words), this.value(3)]);
    // a member resourceType may have been drawn before; the last one counts
    if (r.chance(0.95)) members.push(["entry", this.list(this.entries())]);
    return `${r.chance(0.1) ? "\uFEFF" : ""}${this.gap()}${this.object(members)}${this.gap()}`;
  }
}

const anyPage = fc.nat().map((seed) => Buffer.from(new Speller(random(seed)).page()));

describe("property tests of pages:", () => {
  test("property: both twins find what JSON.parse finds, and copy it byte by byte", () => {
    let own = 0;
    let all = 0;
    fc.assert(
      fc.property(anyPage, (page) => {
        if (!parsed(page)) return twins.every((twin) => twin.kindOf(page) === "notBundle");
        for (const twin of twins) compare(twin, page);
        assert.deepEqual(simd.read(page), plain.read(page));
        all++;
        if (!simd.table.handedOver) own++;
        return true;
      }),
      propertyRuns(3000, 600),
    );
    // otherwise the plain twin would have been tested twice
    assert(own > all / 2, `${own} of ${all}`);
  });

  test("property: a page with a changed byte is refused where JSON.parse refuses it", () => {
    fc.assert(
      fc.property(
        anyPage,
        fc.nat(),
        fc.constantFrom(...Buffer.from('{}[]":,0-.eEtf\\ \n\u0001Yxud')),
        (page, place, byte) => {
          const changed = Buffer.from(page);
          changed[place % page.length] = byte;
          let expected = "syntax";
          try {
            expected =
              new TextDecoder("utf-8", { fatal: true }).decode(changed) !== undefined && parsed(changed)
                ? "none"
                : "notBundle";
          } catch {}
          const of = plain.kindOf(changed);
          assert.equal(of === "truncated" ? "syntax" : of, expected);
          assert.equal(simd.kindOf(changed), of);
          if (of === "none") compare(simd, changed);
        },
      ),
      propertyRuns(3000, 600),
    );
  });

  test("property: a page that is cut anywhere is truncated", () => {
    fc.assert(
      fc.property(anyPage, fc.nat(), (page, place) => {
        const text = page.toString().trimEnd();
        // a page that is cut inside a character is not UTF-8
        const cut = text.slice(0, place % text.length).replace(/[\ud800-\udbff]$/, "");
        for (const twin of twins) {
          assert.equal(twin.kindOf(cut), "truncated");
          assert.equal(twin.kindOf(page, Buffer.byteLength(cut)), "truncated");
        }
      }),
      propertyRuns(2000, 400),
    );
  });
});

describe("at every place of a block and a segment:", () => {
  const tricky =
    '{"resourceType":"Patient","id":"a\\\\","x":"\\\\\\"{ \\\\\\\\","meta":{"versionId":"1","lastUpdated":"2020\\u002d01"},"y":[{"z":"\\"}"}],"contained":[{"id":"no"}],"n":1.50}';
  // the 64 places of a block, and places around the end of a segment of 8 KiB
  for (const [name, from, to] of [
    ["a block", 0, 130],
    ["a segment", 7900, 8300],
  ] as const)
    test(`escapes and brackets at each place of ${name}`, () => {
      for (let at = from; at < to; at++) {
        const head = `{"resourceType":"Bundle","x":"${"\u00e9".repeat(at >> 1)}${"x".repeat(at & 1)}","entry":[{"resource":`;
        const page = `${head}${tricky}},{"resource":${tricky.replace(",", ", ")},"search":{"mode":"match"}}]}`;
        compare(simd, Buffer.from(page));
        assert.equal(simd.table.handedOver, false);
      }
    });
  test("runs of backslashes of every length at every place of a block", () => {
    for (let length = 1; length < 70; length++)
      for (let at = 0; at < 64; at += length < 4 ? 1 : 7) {
        const page = `{"resourceType":"Bundle","entry":[{"resource":{"v":{"x":"${"x".repeat(at)}${"\\\\".repeat(length)}\\"","y" : "}"},"id":"a"}}]}`;
        compare(simd, Buffer.from(page));
      }
  });
});
