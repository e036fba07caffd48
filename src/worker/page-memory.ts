import type { Task } from "../contracts.ts";
import { pickScanner, tableBytes } from "../scan/simd.ts";
import { type PageTable, reservedBytes, slack } from "../scan/table.ts";
import { Slabs, slabSpace } from "../sink/slabs.ts";
import { maxBlocks } from "../sink/writer.ts";
import { maxParallel } from "./parallel.ts";

/** Much larger than the pages of most servers. A larger page is received into a buffer of its own, which is slower
 *  (read/pages.ts). Reserved memory costs nothing until it is used. */
const slotBytes = 8 << 20;
/** A volume has no block size of its own. A block is what is lost when a write is cut off. */
const volumeBlockBytes = 4 << 20;
/** Larger blocks, with their chains, would not fit into the 4 GiB that WebAssembly can address. */
const maxSlabBytes = 64 << 20;
const maxSlabsBytes = 2 ** 31;
const maxChains = 64;
/** how many types a seal closes at a time, each with blocks of its own */
const closings = maxParallel;
/** how many rows are judged at a time */
export const batchRows = 1024;

/** Where one page is received and scanned. */
export interface Slot {
  /** offset in the memory */
  at: number;
  /** bytes */
  size: number;
  table: PageTable;
}

/** What one chain works with. */
export interface Chain {
  /** for the page that is being read, and for the one that is being received */
  slots: [Slot, Slot];
  /** offset of the place for the fingerprints of `batchRows` rows */
  prints: number;
}

/** The memory of one worker: one WebAssembly.Memory that never grows, because growth would detach every view of it. The
 *  scanner's own part comes first, then the chains, then the blocks. */
export class PageMemory {
  readonly memory: Buffer;
  readonly words: Uint32Array;
  readonly slabs: Slabs;
  readonly chains: number;
  readonly #free: Chain[] = [];
  readonly #waiting: ((chain: Chain) => void)[] = [];

  /** @param slot bytes of a slot; only tests change it */
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

  /** Waits until a chain is free. The caller must give it back. */
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

/** Bytes of a block: what the target says, but enough for the largest file of the export, because a blob has at most
 *  50,000 blocks. */
export function blockBytesOf({ target, export: { maxFileBytes } }: Task): number {
  const wanted = "azureBlob" in target ? target.azureBlob.blockBytes : volumeBlockBytes;
  return Math.min(maxSlabBytes, Math.max(wanted, Math.ceil(maxFileBytes / maxBlocks)));
}

/** Bytes of the largest file: what the export says, but no more than its blocks can hold. */
export const maxFileBytesOf = (task: Task): number =>
  Math.min(task.export.maxFileBytes, blockBytesOf(task) * maxBlocks);
