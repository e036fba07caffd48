import { terminal, transient } from "../../failure.ts";
import { decoded, maxPageBytes, type SourceClient } from "../../fhir/client.ts";
import { Collector, type Head, type Headers, type Receiver } from "../../fhir/http.ts";
import { earlyNext, linkHeaderNext } from "../../scan/early.ts";
import { OwnMemory } from "../../scan/own.ts";
import { ScanError } from "../../scan/page.ts";
import { copyResource } from "../../scan/plain.ts";
import { checkLine, type Expected, type PageTable } from "../../scan/table.ts";
import type { Lines } from "../../sink/lines.ts";
import type { Chain, PageMemory, Slot } from "../page-memory.ts";

/** Times that a page is tried before it is looked at whether it is the page's own fault. */
const usualTries = 4;
/** 15 us for one resource are 1 % of what 1,000 take */
const checkEvery = 1000;
/** Next links stand within it where servers write `link` before `entry`, as FHIR orders them. */
const headBytes = 65_536;

/** A page that was read, until the next one is asked for. */
export interface PageView {
  table: PageTable;
  lines: Lines;
  /** of the memory that the page lies in */
  words: Uint32Array;
  /** offset of a place for the fingerprints of `batchRows` rows in that memory */
  prints: number;
}

/** Reads the pages of one chain, one ahead of the one that is worked on: its request goes out as soon as the page before names it, in its Link header or
 *  its first bytes. A wrong guess costs a request and nothing else. */
export class Reader {
  readonly #source: SourceClient;
  readonly #memory: PageMemory;
  readonly #chain: Chain;
  readonly #expected: Expected;
  /** resources since one was; the first page has one */
  #unchecked = checkEvery;
  /** of slots for which a page was too large */
  readonly #own = new Map<Slot, OwnMemory>();
  #current: Slot;
  #early: string | undefined;
  #ahead: { link: string; page: Promise<PageView | { status: number }> } | undefined;
  /** of what goes ahead */
  #abort = new AbortController();

  private constructor(source: SourceClient, memory: PageMemory, chain: Chain, expected: Expected) {
    this.#source = source;
    this.#memory = memory;
    this.#chain = chain;
    this.#expected = expected;
    this.#current = chain.slots[0];
    for (const { table } of chain.slots) table.expect(expected);
  }

  static async open(source: SourceClient, memory: PageMemory, expected: Expected): Promise<Reader> {
    return new Reader(source, memory, await memory.take(), expected);
  }

  /** The page at `link`; the one before it is gone. Statuses of `accept` answer `{status}` alone.
   *  @throws PageFailure; terminal SourceNotFHIR when it is JSON but no Bundle */
  async read(link: string, accept: number[], tries = usualTries): Promise<PageView | { status: number }> {
    const ahead = this.#ahead;
    if (ahead?.link === link) {
      this.#ahead = undefined;
      this.#current = this.#other();
      this.#goAhead();
      return ahead.page;
    }
    await this.#leaveAhead();
    this.#early = undefined;
    return this.#fetch(link, this.#current, accept, tries);
  }

  /** Ends what is under way and gives the memory back. */
  async close(): Promise<void> {
    await this.#leaveAhead();
    this.#memory.give(this.#chain);
  }

  #other(): Slot {
    const [first, second] = this.#chain.slots;
    return this.#current === first ? second : first;
  }

  /** Asks for the page behind the current one, if it is known and its slot is free. */
  #goAhead(): void {
    const link = this.#early;
    if (link === undefined || this.#ahead) return;
    this.#early = undefined;
    const page = this.#fetch(link, this.#other(), [400, 404, 410], usualTries, this.#abort.signal);
    // looked at when the page is asked for
    page.catch(() => {});
    this.#ahead = { link, page };
  }

  async #leaveAhead(): Promise<void> {
    const ahead = this.#ahead;
    if (!ahead) return;
    this.#ahead = undefined;
    this.#abort.abort();
    this.#abort = new AbortController();
    // until then its slot is written to
    await ahead.page.catch(() => {});
  }

  #fetch(
    link: string,
    slot: Slot,
    accept: number[],
    tries: number,
    signal?: AbortSignal,
  ): Promise<PageView | { status: number }> {
    const body = new SlotBody(slot, this.#memory.memory, (next) => this.#found(next, slot), this.#source.tooLong);
    return this.#source.receive(
      link,
      body,
      (head) => (head.status >= 400 ? { status: head.status } : this.#scan(body, head, slot)),
      {
        accept,
        tries,
        ...(signal && { signal }),
      },
    );
  }

  /** `next` of the page that `slot` receives. */
  #found(next: string, slot: Slot): void {
    let link: string;
    try {
      link = this.#source.resolve(next).href;
    } catch {
      // it is looked at again, and refused, when the page is there
      return;
    }
    // a page that is read again names it again
    if (this.#ahead?.link === link) return;
    this.#early = link;
    if (slot === this.#current) this.#goAhead();
  }

  #scan(body: SlotBody, { headers }: Head, slot: Slot): PageView {
    const large = body.finish(headers);
    try {
      const view = large ? this.#large(large, slot) : this.#small(slot, body.length);
      this.#check(view.table);
      return view;
    } catch (error) {
      if (!(error instanceof ScanError)) throw error;
      if (error.kind === "notBundle")
        throw terminal("SourceNotFHIR", `a search of the source does not give a Bundle: ${error.message}`, error);
      throw transient("SourceInconsistent", `a page of the source is broken: ${error.message}`, error);
    }
  }

  /** The scanner does not look at everything inside a resource, so one of many is read in full. */
  #check(table: PageTable): void {
    this.#unchecked += table.count;
    if (this.#unchecked < checkEvery || table.count === 0) return;
    checkLine(table.resource(this.#unchecked % table.count));
    this.#unchecked = 0;
  }

  #small({ table, at }: Slot, length: number): PageView {
    table.scan(at, length);
    return {
      table,
      lines: new Rows(table, this.#memory.memory),
      words: this.#memory.words,
      prints: this.#chain.prints,
    };
  }

  #large(bytes: Buffer, slot: Slot): PageView {
    let own = this.#own.get(slot);
    if (!own) this.#own.set(slot, (own = new OwnMemory()));
    const { table, memory, out } = own.read(bytes, this.#expected);
    return { table, lines: new Rows(table, undefined), words: new Uint32Array(memory.buffer), prints: out };
  }
}

/** The rows of a page as lines. */
export class Rows implements Lines {
  readonly #table: PageTable;
  readonly #memory: Buffer | undefined;

  /** @param memory where the page lies, if blocks lie there, too */
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

/** Receives a page into its slot; what is larger, or has to be unpacked, beside it. */
class SlotBody implements Receiver {
  length = 0;
  readonly #slot: Slot;
  readonly #memory: Buffer;
  readonly #found: (next: string) => void;
  readonly #spill: Collector;
  #spilled = false;
  #looked = false;

  /** @param found is told the next link as soon as it is seen */
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
    // two large pages of one chain at a time would be too many
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
    // what is too large is not the slot's at all
    if (this.#spilled || this.length + most > size) return undefined;
    const from = at + this.length;
    // the next link is looked for as soon as it may be there
    return this.#memory.subarray(from, from + (this.#looked ? most : Math.min(most, headBytes)));
  }

  placed(length: number): void {
    const { at } = this.#slot;
    this.length += length;
    if (!this.#looked && this.length >= headBytes) {
      this.#looked = true;
      const next = earlyNext(this.#memory.subarray(at, at + headBytes));
      if (next !== undefined) this.#found(next);
    }
  }

  /** The page, if it does not lie in the slot. */
  finish(headers: Headers): Buffer | undefined {
    if (!this.#spilled) return undefined;
    const bytes = decoded(this.#spill.bytes, headers);
    if (bytes.length > this.#slot.size) return bytes;
    this.#memory.set(bytes, this.#slot.at);
    this.length = bytes.length;
    return undefined;
  }
}
