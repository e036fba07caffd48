import { type GetOptions, maxPageBytes, type SourceClient } from "../../fhir/client.ts";
import { decoded, isPacked } from "../../fhir/content-coding.ts";
import { beginningBytes, Collector, type Headers, type Receiver } from "../../fhir/http.ts";
import { toPageError } from "../../fhir/reads.ts";
import { isTooMuch } from "../../fhir/refusals.ts";
import { earlyNext, linkHeaderNext } from "../../scan/early.ts";
import { OwnMemory } from "../../scan/own.ts";
import { copyResource } from "../../scan/plain.ts";
import { RowPrints } from "../../scan/row-prints.ts";
import type { Expected, PageTable } from "../../scan/table.ts";
import type { Lines } from "../../sink/lines.ts";
import type { Chain, PageMemory, Slot } from "../page-memory.ts";

/** The first bytes of a page. They hold its next link if the server writes `link` before `entry`, as FHIR orders
 *  them. */
const firstBytes = 65_536;

/** A page that was read. It is good until the next page is asked for. */
export interface PageView {
  kind: "page";
  table: PageTable;
  lines: Lines;
  /** has room for the fingerprints of `batchRows` rows */
  prints: RowPrints;
}

/** What the source answers when it is asked for a page. */
export type PageAnswer = PageView | { kind: "refused"; status: number; isTooMuch: boolean };

/** Reads the pages of one chain, one page ahead of the one that is worked on: the request for the next page goes out
 *  as soon as this page names it, in its Link header or its first bytes. A wrong guess costs a request and nothing
 *  else. */
export class PageReader {
  readonly #source: SourceClient;
  readonly #memory: PageMemory;
  readonly #chain: Chain;
  readonly #expected: Expected;
  readonly #prints: RowPrints;
  /** the memory of pages that were too large for their slot */
  readonly #own = new Map<Slot, OwnMemory>();
  #current: Slot;
  /** the next link, known before its page was asked for */
  #early: string | undefined;
  #ahead: { link: string; page: Promise<PageAnswer> } | undefined;
  /** ends the request for the page ahead */
  #abort = new AbortController();

  private constructor(source: SourceClient, memory: PageMemory, chain: Chain, expected: Expected) {
    this.#source = source;
    this.#memory = memory;
    this.#chain = chain;
    this.#expected = expected;
    this.#prints = new RowPrints(memory.words, chain.prints);
    this.#current = chain.slots[0];
    for (const { table } of chain.slots) table.expect(expected);
  }

  /** Waits for a chain's part of the memory. */
  static async open(source: SourceClient, memory: PageMemory, expected: Expected): Promise<PageReader> {
    return new PageReader(source, memory, await memory.take(), expected);
  }

  /** Reads the page at `link`; the page before it is gone then.
   *  @param how `purpose`: whether it is the first page of a search, or behind a next link; `tries`: how often it is
   *    tried before it is given up; `canAskLess`: a smaller page can be asked for
   *  @returns `refused` where the source refuses the search, or does not know the link any more
   *  @throws PageFailure when this page is given up; terminal SourceNotFHIR when it is JSON but no Bundle */
  async read(
    link: string,
    { tries, ...how }: { purpose: "search" | "next"; tries?: number | undefined; canAskLess: boolean },
  ): Promise<PageAnswer> {
    const ahead = this.#ahead;
    if (ahead?.link === link) {
      this.#ahead = undefined;
      this.#current = this.#other();
      this.#goAhead();
      return ahead.page;
    }
    await this.#leaveAhead();
    this.#early = undefined;
    return this.#fetch(link, this.#current, { ...how, ...(tries !== undefined && { tries }) });
  }

  /** Ends the request that is under way and gives the memory back. */
  async close(): Promise<void> {
    await this.#leaveAhead();
    this.#memory.give(this.#chain);
  }

  #other(): Slot {
    const [first, second] = this.#chain.slots;
    return this.#current === first ? second : first;
  }

  /** Asks for the page behind the current one, if its link is known and its slot is free. */
  #goAhead(): void {
    const link = this.#early;
    if (link === undefined || this.#ahead) return;
    this.#early = undefined;
    const page = this.#fetch(link, this.#other(), {
      purpose: "next",
      canAskLess: true,
      signal: this.#abort.signal,
    });
    // `read` meets the error when the page is asked for; without this it would count as unhandled until then.
    page.catch(() => {});
    this.#ahead = { link, page };
  }

  async #leaveAhead(): Promise<void> {
    const ahead = this.#ahead;
    if (!ahead) return;
    this.#ahead = undefined;
    this.#abort.abort();
    this.#abort = new AbortController();
    // Until the request has ended its slot is written to.
    await ahead.page.catch(() => {});
  }

  #fetch(link: string, slot: Slot, options: GetOptions): Promise<PageAnswer> {
    const found = (next: string) => this.#found(next, link, slot);
    const body = new SlotBody(slot, this.#memory.memory, found, this.#source.tooLong);
    return this.#source.receive(
      link,
      body,
      ({ status, headers }, isRefusal) =>
        isRefusal
          ? { kind: "refused", status, isTooMuch: isTooMuch(status, body.beginning()) }
          : this.#scan(body, headers, slot),
      { ...options, type: this.#expected.type, isPage: true },
    );
  }

  /** Takes the next link of the page that `slot` receives.
   *  @param asked the link of that page */
  #found(next: string, asked: string, slot: Slot): void {
    let link: string | undefined;
    try {
      link = this.#source.next(asked, { next });
    } catch {
      // The link is resolved again, and refused, when the page is there.
      return;
    }
    // A page that is tried again names its next link again.
    if (link === undefined || this.#ahead?.link === link) return;
    this.#early = link;
    if (slot === this.#current) this.#goAhead();
  }

  #scan(body: SlotBody, headers: Headers, slot: Slot): PageView {
    const large = body.finish(headers);
    try {
      return large ? this.#large(large, slot) : this.#small(slot, body.length);
    } catch (error) {
      throw toPageError(error);
    }
  }

  #small({ table, at }: Slot, length: number): PageView {
    table.scan(at, length);
    return { kind: "page", table, lines: new Rows(table, this.#memory.memory), prints: this.#prints };
  }

  #large(bytes: Buffer, slot: Slot): PageView {
    let own = this.#own.get(slot);
    if (!own) this.#own.set(slot, (own = new OwnMemory()));
    const { table, memory, out } = own.read(bytes, this.#expected);
    return {
      kind: "page",
      table,
      lines: new Rows(table, undefined),
      prints: new RowPrints(new Uint32Array(memory.buffer), out),
    };
  }
}

/** The rows of a page as lines. */
export class Rows implements Lines {
  readonly #table: PageTable;
  readonly #memory: Buffer | undefined;

  /** @param memory the memory that the page lies in, if blocks lie in the same */
  constructor(table: PageTable, memory: Buffer | undefined) {
    this.#table = table;
    this.#memory = memory;
  }
  room(from: number, to: number): number {
    return this.#table.room(from, to);
  }
  emit(from: number, to: number, memory: Buffer, at: number): number {
    const table = this.#table;
    if (memory === this.#memory) return table.emit(from, to, at);
    for (let row = from; row < to; row++) {
      const bytes = table.resource(row);
      at = copyResource(bytes, { start: 0, end: bytes.length, compact: table.isCompact(row) }, memory, at);
      memory[at++] = 0x0a;
    }
    return at;
  }
}

/** Receives a page into its slot. A page that is larger than the slot, or has to be unpacked, is received beside it. */
class SlotBody implements Receiver {
  length = 0;
  readonly #slot: Slot;
  readonly #memory: Buffer;
  readonly #found: (next: string) => void;
  readonly #spill: Collector;
  readonly #tooLong: () => Error;
  #spilled = false;
  #looked = false;

  /** @param found takes the next link as soon as it is seen */
  constructor(slot: Slot, memory: Buffer, found: (next: string) => void, tooLong: () => Error) {
    this.#slot = slot;
    this.#memory = memory;
    this.#found = found;
    this.#tooLong = tooLong;
    this.#spill = new Collector(maxPageBytes, tooLong);
  }

  start(headers: Headers): void {
    this.length = 0;
    this.#spilled = isPacked(headers);
    if (this.#spilled) this.#spill.start();
    // Two large pages of one chain at a time would take too much memory, so the next one is not asked for early.
    const large = Number(headers["content-length"]) > this.#slot.size;
    const next = large ? undefined : linkHeaderNext(headers.link);
    this.#looked = next !== undefined || this.#spilled || large;
    if (next !== undefined) this.#found(next);
  }

  write(chunk: Buffer): void {
    if (this.#spilled) {
      this.#spill.write(chunk);
      return;
    }
    const { at, size } = this.#slot;
    if (this.length + chunk.length > size) {
      this.#spilled = true;
      this.#spill.start();
      this.#spill.write(this.#memory.subarray(at, at + this.length));
      this.#spill.write(chunk);
      return;
    }
    this.#memory.set(chunk, at + this.length);
    this.placed(chunk.length);
  }

  place(most: number): Uint8Array | undefined {
    const { at, size } = this.#slot;
    // A page that does not fit goes beside the slot as a whole.
    if (this.#spilled || this.length + most > size) return undefined;
    const from = at + this.length;
    // The next link is looked for as soon as its bytes may be there.
    return this.#memory.subarray(from, from + (this.#looked ? most : Math.min(most, firstBytes)));
  }

  placed(length: number): void {
    const { at } = this.#slot;
    this.length += length;
    if (!this.#looked && this.length >= firstBytes) {
      this.#looked = true;
      const next = earlyNext(this.#memory.subarray(at, at + firstBytes));
      if (next !== undefined) this.#found(next);
    }
  }

  beginning(): string {
    if (this.#spilled) return this.#spill.beginning();
    const { at } = this.#slot;
    return this.#memory.toString("latin1", at, at + Math.min(this.length, beginningBytes));
  }

  /** @returns the page's bytes, if they do not fit into the slot; undefined where they lie in it */
  finish(headers: Headers): Buffer | undefined {
    if (!this.#spilled) return undefined;
    const bytes = decoded(this.#spill.bytes, headers, maxPageBytes, this.#tooLong);
    if (bytes.length > this.#slot.size) return bytes;
    this.#memory.set(bytes, this.#slot.at);
    this.length = bytes.length;
    return undefined;
  }
}
