import type { GetOptions, SourceClient } from "../../fhir/client.ts";
import { toPageError } from "../../fhir/reads.ts";
import { isTooMuch } from "../../fhir/refusals.ts";
import { copyResource } from "../../scan/plain.ts";
import { RowPrints } from "../../scan/row-prints.ts";
import type { Expected, PageTable } from "../../scan/table.ts";
import type { Lines } from "../../sink/lines.ts";
import { type LargePlace, NoRoom } from "../large-pages.ts";
import type { Chain, PageMemory, Slot } from "../page-memory.ts";
import { PageBody } from "./page-body.ts";

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
  /** what the pages of the slots were received by, which may hold room for large pages */
  readonly #bodies = new Map<Slot, PageBody>();
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
    this.#release(this.#current);
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
    this.#release(this.#current);
    this.#memory.give(this.#chain);
  }

  /** The page in this slot is done with. */
  #release(slot: Slot): void {
    this.#bodies.get(slot)?.release();
    this.#bodies.delete(slot);
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
    this.#release(this.#other());
  }

  async #fetch(link: string, slot: Slot, options: GetOptions): Promise<PageAnswer> {
    const { memory, large } = this.#memory;
    const found = (next: string) => this.#found(next, link, slot);
    for (let given: LargePlace | undefined; ; ) {
      const body = new PageBody({ slot, memory, large, given, found, tooLong: this.#source.tooLong });
      try {
        const answer = await this.#receive(link, body, slot, options);
        if (answer.kind === "page") this.#bodies.set(slot, body);
        else body.release();
        return answer;
      } catch (error) {
        body.release();
        if (!(error instanceof NoRoom)) throw error;
        given = await large.wait(error.bytes, options.signal);
      }
    }
  }

  #receive(link: string, body: PageBody, slot: Slot, options: GetOptions): Promise<PageAnswer> {
    return this.#source.receive(
      link,
      body,
      async ({ status, headers }, isRefusal) =>
        isRefusal
          ? { kind: "refused", status, isTooMuch: isTooMuch(status, body.beginning()) }
          : this.#scan(await body.finish(headers), body.length, slot),
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

  #scan(place: LargePlace | undefined, length: number, slot: Slot): PageView {
    try {
      return place ? this.#large(place, length) : this.#small(slot, length);
    } catch (error) {
      throw toPageError(error);
    }
  }

  #small({ table, at }: Slot, length: number): PageView {
    table.scan(at, length);
    return { kind: "page", table, lines: new Rows(table, this.#memory.memory), prints: this.#prints };
  }

  #large(place: LargePlace, length: number): PageView {
    const { table, words, prints } = place.page(length);
    table.expect(this.#expected);
    table.scan(place.at, length);
    return { kind: "page", table, lines: new Rows(table, undefined), prints: new RowPrints(words, prints) };
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
