import { FailureError } from "../failure.ts";
import { pickScanner, tableBytes } from "../scan/simd.ts";
import { type PageTable, reservedBytes, slack } from "../scan/table.ts";
import { aligned } from "../sink/slabs.ts";

/** There is no room for a page now. Its request is over; it waits for room, and is asked for again. */
export class NoRoom extends FailureError {
  /** how much it needs */
  readonly bytes: number;
  constructor(bytes: number) {
    super("waiting", "SourceInconsistent", "a page is larger than what there is room for now");
    this.bytes = bytes;
  }
}

/** A page in the place where it lies: its table, and the memory with an offset for fingerprints. */
interface PlacedPage {
  table: PageTable;
  words: Uint32Array;
  prints: number;
}

/** Where a page is received that is larger than its slot. */
export interface LargePlace {
  /** all of the memory */
  readonly memory: Buffer;
  /** offset of the page, and how many bytes it may have */
  readonly at: number;
  readonly size: number;
  /** Makes the place larger, where the memory behind it is free. @returns false where it is not */
  grow(bytes: number): boolean;
  /** Cuts the place behind its first `bytes`. @returns a place of what was cut off */
  split(bytes: number): LargePlace;
  /** The page has arrived: what is behind its `length` bytes is free for others. */
  page(length: number): PlacedPage;
  /** Gives the place back. It may be called again. */
  release(): void;
}

/** The memory for all pages of a worker that are larger than their slots, whatever chain they are of. A page takes as
 *  much of it as it has bytes, unpacked ones, and half of that for its table; where there is no room it waits. So all
 *  of them together are never more than the largest page that is taken. It is one WebAssembly.Memory, since the garbage
 *  collector frees those late. Nobody waits while a request is under way, as others may need the request's turn to go
 *  on and give their room back. */
export class LargePages {
  /** the largest page */
  readonly most: number;
  readonly #printBytes: number;
  #memory: { buffer: Buffer; words: Uint32Array; scanner: ReturnType<typeof pickScanner> } | undefined;
  /** what is taken, by its offset: [from, to) */
  readonly #taken: Extent[] = [];
  readonly #waiting: { bytes: number; grant: (place: LargePlace) => void }[] = [];
  /** bytes of the largest page so far */
  #largest: number;

  /** @param most bytes of the largest page, and so of all of them
   *  @param printRows how many rows of a page have their fingerprints in memory at a time */
  constructor(most: number, printRows: number) {
    this.most = most;
    this.#printBytes = printRows * 16;
    this.#largest = most;
  }

  /** Room for a page of this many bytes; of a length that is not known yet: for twice the largest page so far.
   *  @throws NoRoom where others have it */
  take(bytes?: number): LargePlace {
    const wanted = this.#wanted(bytes);
    const extent = this.#waiting.length > 0 ? undefined : this.#find(wanted);
    if (!extent) throw new NoRoom(wanted);
    return this.#placeOf(extent, wanted);
  }

  /** The same, but waits for it, behind those that wait already. */
  async wait(bytes: number, signal?: AbortSignal): Promise<LargePlace> {
    signal?.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<LargePlace>();
    const one = { bytes: this.#wanted(bytes), grant: resolve };
    const leave = () => {
      const index = this.#waiting.indexOf(one);
      if (index < 0) return;
      this.#waiting.splice(index, 1);
      reject(signal!.reason as Error);
      this.#grant();
    };
    signal?.addEventListener("abort", leave);
    this.#waiting.push(one);
    this.#grant();
    return promise.finally(() => signal?.removeEventListener("abort", leave));
  }

  #wanted(bytes = 2 * this.#largest): number {
    return Math.min(this.most, bytes);
  }

  #grant(): void {
    for (let first = this.#waiting[0]; first; first = this.#waiting[0]) {
      const extent = this.#find(first.bytes);
      if (!extent) return;
      this.#waiting.shift();
      first.grant(this.#placeOf(extent, first.bytes));
    }
  }

  /** The bytes that a page takes with its table. */
  #space(page: number): number {
    return aligned(slack + page + slack) + aligned(this.#printBytes) + aligned(tableBytes(page));
  }

  get #end(): number {
    return reservedBytes + this.#space(this.most);
  }

  /** Takes the first gap that is large enough. */
  #find(page: number): Extent | undefined {
    let from = reservedBytes;
    for (let index = 0; index <= this.#taken.length; index++) {
      const next = this.#taken[index];
      if ((next?.from ?? this.#end) - from >= this.#space(page)) {
        const extent = { from, to: from + this.#space(page) };
        this.#taken.splice(index, 0, extent);
        return extent;
      }
      from = next?.to ?? this.#end;
    }
    return undefined;
  }

  #made() {
    if (this.#memory) return this.#memory;
    const pages = Math.ceil(this.#end / 65_536) + 1;
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages });
    const [buffer, words] = [Buffer.from(memory.buffer), new Uint32Array(memory.buffer)];
    this.#memory = { buffer, words, scanner: pickScanner(memory) };
    return this.#memory;
  }

  #placeOf(extent: Extent, size: number): LargePlace {
    const { buffer, words, scanner } = this.#made();
    const at = extent.from + slack;
    const spaceOf = (page: number) => this.#space(page);
    return {
      memory: buffer,
      at,
      get size() {
        return size;
      },
      grow: (bytes) => {
        const behind = this.#taken[this.#taken.indexOf(extent) + 1]?.from ?? this.#end;
        const to = extent.from + spaceOf(bytes);
        if (bytes > this.most || to > behind || this.#waiting.length > 0) return false;
        extent.to = to;
        size = bytes;
        return true;
      },
      split: (bytes) => {
        const rest: Extent = { from: aligned(at + bytes + slack), to: extent.to };
        extent.to = rest.from;
        size = bytes;
        this.#taken.splice(this.#taken.indexOf(extent) + 1, 0, rest);
        // what a page may have whose table fits behind it; `grow` may find more
        const room = Math.max(0, Math.floor(((rest.to - rest.from - this.#space(0)) * 5) / 8));
        return this.#placeOf(rest, room);
      },
      page: (length) => {
        this.#largest = this.#largest === this.most ? length : Math.max(this.#largest, length);
        const prints = at + aligned(length + slack);
        const table = scanner.table(prints + aligned(this.#printBytes), length);
        extent.to = extent.from + spaceOf(length);
        size = length;
        this.#grant();
        return { table, words, prints };
      },
      release: () => {
        const index = this.#taken.indexOf(extent);
        if (index < 0) return;
        this.#taken.splice(index, 1);
        this.#grant();
      },
    };
  }
}

interface Extent {
  from: number;
  to: number;
}
