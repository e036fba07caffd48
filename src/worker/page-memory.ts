import type { Task } from "../contracts.ts";
import { pickScanner, tableBytes } from "../scan/simd.ts";
import { type PageTable, reservedBytes, slack } from "../scan/table.ts";
import { Slabs, slabSpace } from "../sink/slabs.ts";
import { maxEarlyBlocks } from "../sink/writer.ts";

/** Larger than the pages of most servers by far; a larger page takes a slower way (Pages). Of what is reserved only what is used takes memory. */
const slotBytes = 8 << 20;
/** a volume has no block size of its own; a block is what is lost when a write tears */
const volumeBlockBytes = 4 << 20;
/** more would not fit, together with their chains, into the 4 GiB that WebAssembly can address */
const maxSlabBytes = 64 << 20;
const maxSlabsBytes = 2 ** 31;
const maxChains = 64;
/** types that a seal closes at a time, see eachParallel */
const closings = 16;
/** rows that are judged at a time */
export const batchRows = 1024;

/** Where one page is received and read. */
export interface Slot {
  at: number;
  size: number;
  table: PageTable;
}

/** What one chain works with: the page that is read and the one that comes, and a place for fingerprints. */
export interface Chain {
  slots: [Slot, Slot];
  prints: number;
}

/** The memory of one worker: one WebAssembly.Memory that never grows (growth would detach every view), with the scanner's own part at its start, then
 *  the chains, then the blocks. */
export class PageMemory {
  readonly memory: Buffer;
  readonly words: Uint32Array;
  readonly slabs: Slabs;
  readonly chains: number;
  readonly #free: Chain[] = [];
  readonly #waiting: ((chain: Chain) => void)[] = [];

  /** @param slot bytes; for tests */
  constructor(chains: number, blockBytes: number, slot = slotBytes) {
    const slabs = Math.min(2 * Math.max(chains, closings), Math.floor(maxSlabsBytes / slabSpace(blockBytes)));
    this.chains = Math.min(chains, maxChains, Math.floor(slabs / 2));
    const slotSpace = align(slack + slot + slack) + align(tableBytes(slot));
    const chainSpace = 2 * slotSpace + batchRows * 16;
    const first = align(reservedBytes + slack);
    const size = first + this.chains * chainSpace + slabs * slabSpace(blockBytes) + slack;
    const pages = Math.ceil(size / 65_536);
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages });
    this.memory = Buffer.from(memory.buffer);
    this.words = new Uint32Array(memory.buffer);
    const scanner = pickScanner(memory);
    const slotAt = (at: number): Slot => ({
      at: at + slack,
      size: slot,
      table: scanner.table(at + align(slack + slot + slack), slot),
    });
    for (let i = 0; i < this.chains; i++) {
      const at = first + i * chainSpace;
      this.#free.push({ slots: [slotAt(at), slotAt(at + slotSpace)], prints: at + 2 * slotSpace });
    }
    this.slabs = new Slabs(this.memory, first + this.chains * chainSpace, blockBytes, slabs);
  }

  /** A chain's part, when one is free; give it back. */
  async take(): Promise<Chain> {
    return this.#free.pop() ?? new Promise((resolve) => this.#waiting.push(resolve));
  }
  give(chain: Chain): void {
    const next = this.#waiting.shift();
    if (next) next(chain);
    else this.#free.push(chain);
  }
}

const align = (bytes: number) => Math.ceil(bytes / 8) * 8;

/** How large blocks are: as the target has it, but large enough for the largest file, as a blob has at most 50,000 of them. */
export function blockBytesOf({ target, export: { maxFileBytes } }: Task): number {
  const wanted = "azureBlob" in target ? target.azureBlob.blockBytes : volumeBlockBytes;
  return Math.min(maxSlabBytes, Math.max(wanted, Math.ceil(maxFileBytes / maxEarlyBlocks)));
}

/** Likewise, where blocks cannot be larger. */
export const maxFileBytesOf = (task: Task): number =>
  Math.min(task.export.maxFileBytes, blockBytesOf(task) * maxEarlyBlocks);
