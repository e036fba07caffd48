import { decoded, type GetOptions, maxPageBytes, type SourceClient } from "../../fhir/client.ts";
import { Collector, type Head, type Headers, type Receiver } from "../../fhir/http.ts";
import { toPageError } from "../../fhir/reads.ts";
import { earlyNext, linkHeaderNext } from "../../scan/early.ts";
import { OwnMemory } from "../../scan/own.ts";
import { copyResource } from "../../scan/plain.ts";
import { RowPrints } from "../../scan/row-prints.ts";
import type { Expected, PageTable } from "../../scan/table.ts";
import type { Lines } from "../../sink/lines.ts";
import type { Chain, PageMemory, Slot } from "../page-memory.ts";

/** How often a page is tried before the worker looks whether the fault is the page's own (bisect.ts). */
const usualTries = 4;
/** The first bytes of a page. They hold its next link if the server writes `link` before `entry`, as FHIR orders
 *  them. */
const firstBytes = 65_536;
/** Statuses of a page that are told to the caller: the source refuses the search, or has forgotten the next link. */
const toldStatuses = [400, 404, 410];

/** A page that was read. It is good until the next page is asked for. */
export interface PageView {
  kind: "page";
  table: PageTable;
  lines: Lines;
  /** has room for the fingerprints of `batchRows` rows */
  prints: RowPrints;
}

/** What the source answers when it is asked for a page. */
export type PageAnswer = PageView | { kind: "refused"; status: number };

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
   *  @returns `refused` where the source refuses the search, or does not know the link any more (400, 404, 410)
   *  @throws PageFailure when this page fails `tries` times; terminal SourceNotFHIR when it is JSON but no Bundle */
  async read(link: string, tries = usualTries): Promise<PageAnswer> {
    const ahead = this.#ahead;
    if (ahead?.link === link) {
      this.#ahead = undefined;
      this.#current = this.#other();
      this.#goAhead();
      return ahead.page;
    }
    await this.#leaveAhead();
    this.#early = undefined;
    return this.#fetch(link, this.#current, { accept: toldStatuses, tries });
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
      accept: toldStatuses,
      tries: usualTries,
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
    const body = new SlotBody(slot, this.#memory.memory, (next) => this.#found(next, slot), this.#source.tooLong);
    return this.#source.receive(
      link,
      body,
      (head) => (head.status >= 400 ? { kind: "refused", status: head.status } : this.#scan(body, head, slot)),
      options,
    );
  }

  /** Takes the next link of the page that `slot` receives. */
  #found(next: string, slot: Slot): void {
    let link: string;
    try {
      link = this.#source.resolve(next).href;
    } catch {
      // The link is resolved again, and refused, when the page is there.
      return;
    }
    // A page that is tried again names its next link again.
    if (this.#ahead?.link === link) return;
    this.#early = link;
    if (slot === this.#current) this.#goAhead();
  }

  #scan(body: SlotBody, { headers }: Head, slot: Slot): PageView {
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
  #spilled = false;
  #looked = false;

  /** @param found takes the next link as soon as it is seen */
  constructor(slot: Slot, memory: Buffer, found: (next: string) => void, tooLong: () => Error) {
    this.#slot = slot;
    this.#memory = memory;
    this.#found = found;
    this.#spill = new Collector(maxPageBytes, tooLong);
  }

  start(headers: Headers): void {
    this.length = 0;
    this.#spilled = headers["content-encoding"] === "gzip";
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

  /** @returns the page's bytes, if they do not fit into the slot; undefined where they lie in it */
  finish(headers: Headers): Buffer | undefined {
    if (!this.#spilled) return undefined;
    const bytes = decoded(this.#spill.bytes, headers);
    if (bytes.length > this.#slot.size) return bytes;
    this.#memory.set(bytes, this.#slot.at);
    this.length = bytes.length;
    return undefined;
  }
}
