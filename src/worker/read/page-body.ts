import { decoded, isPacked, unpack } from "../../fhir/content-coding.ts";
import { beginningBytes, type Headers, type Receiver } from "../../fhir/http.ts";
import { earlyNext, linkHeaderNext } from "../../scan/early.ts";
import { type LargePages, type LargePlace, NoRoom } from "../large-pages.ts";
import type { Slot } from "../page-memory.ts";

/** The first bytes of a page. They hold its next link if the server writes `link` before `entry`, as FHIR orders
 *  them. */
const firstBytes = 65_536;

interface PageBodyOptions {
  slot: Slot;
  /** the memory that the slot lies in */
  memory: Buffer;
  large: LargePages;
  /** room that was waited for; the body gives it back */
  given: LargePlace | undefined;
  /** takes the next link as soon as it is seen */
  found: (next: string) => void;
  /** makes the error for a page that is larger than any may be */
  tooLong: () => Error;
}

/** Receives a page into its slot, or, where it is larger, into the memory for large pages. A page that comes packed is
 *  unpacked from the one place into the other, so its unpacked bytes are counted as well. */
export class PageBody implements Receiver {
  readonly #options: PageBodyOptions;
  /** bytes so far */
  length = 0;
  #place: LargePlace | undefined;
  /** Packed bytes that do not fit into the slot. */
  #packedPlace: LargePlace | undefined;
  /** whether the bytes lie in #place */
  #isPlaced = false;
  #isPacked = false;
  #looked = false;
  /** whether the room that was given is all there is */
  readonly #hadAll: boolean;

  constructor(options: PageBodyOptions) {
    this.#options = options;
    this.#place = options.given;
    this.#hadAll = options.given?.size === options.large.most;
  }

  start(headers: Headers): void {
    const { slot, found } = this.#options;
    this.length = 0;
    this.#leavePacked();
    this.#isPacked = isPacked(headers);
    const said = Number(headers["content-length"] ?? 0);
    this.#isPlaced = said > slot.size;
    if (this.#isPlaced) this.#take(said);
    // A page that is known to be large has its next one not asked for early: two of a chain at a time take much memory.
    const next = this.#isPlaced ? undefined : linkHeaderNext(headers.link);
    this.#looked = next !== undefined || this.#isPacked || this.#isPlaced;
    if (next !== undefined) found(next);
  }

  write(chunk: Buffer): void {
    const { slot, memory } = this.#options;
    const length = this.length + chunk.length;
    if (!this.#isPlaced && length > slot.size) {
      this.#take(undefined);
      this.#isPlaced = true;
      this.#place!.memory.set(memory.subarray(slot.at, slot.at + this.length), this.#place!.at);
    }
    if (!this.#isPlaced) {
      memory.set(chunk, slot.at + this.length);
      this.placed(chunk.length);
      return;
    }
    this.#add(chunk);
  }

  place(most: number): Uint8Array | undefined {
    const { slot, memory } = this.#options;
    const [all, at, size] = this.#isPlaced
      ? [this.#place!.memory, this.#place!.at, this.#place!.size]
      : [memory, slot.at, slot.size];
    // What does not fit comes by `write`.
    if (this.length + most > size) return undefined;
    const from = at + this.length;
    // The next link is looked for as soon as its bytes may be there.
    return all.subarray(from, from + (this.#looked ? most : Math.min(most, firstBytes)));
  }

  placed(length: number): void {
    const { slot, memory, found } = this.#options;
    this.length += length;
    if (this.#looked || this.length < firstBytes) return;
    this.#looked = true;
    const next = earlyNext(memory.subarray(slot.at, slot.at + firstBytes));
    if (next !== undefined) found(next);
  }

  beginning(): string {
    return this.#bytes.toString("latin1", 0, beginningBytes);
  }

  /** The page has arrived. @returns the place that it lies in; undefined where it lies in its slot
   *  @throws NoRoom where it must be asked for again, as there is no room to unpack it */
  async finish(headers: Headers): Promise<LargePlace | undefined> {
    if (this.#isPacked && !this.#unpackSmall(headers)) await this.#unpackLarge(headers);
    if (this.#isPlaced) return this.#place;
    this.release();
    return undefined;
  }

  /** Gives the room back. */
  release(): void {
    this.#place?.release();
    this.#place = undefined;
    this.#leavePacked();
  }

  get #bytes(): Buffer {
    const { slot, memory } = this.#options;
    const [all, at] = this.#isPlaced ? [this.#place!.memory, this.#place!.at] : [memory, slot.at];
    return all.subarray(at, at + this.length);
  }

  /** @returns false where the page does not fit into the slot when it is unpacked */
  #unpackSmall(headers: Headers): boolean {
    const { slot, memory } = this.#options;
    if (this.#isPlaced) return false;
    const tooLarge = new NoRoom(slot.size);
    try {
      const bytes = decoded(this.#bytes, headers, slot.size, () => tooLarge);
      memory.set(bytes, slot.at);
      this.length = bytes.length;
      return true;
    } catch (error) {
      if (error === tooLarge) return false;
      throw error;
    }
  }

  async #unpackLarge(headers: Headers): Promise<void> {
    const packed = this.#bytes;
    if (this.#isPlaced) {
      this.#packedPlace = this.#place!;
      this.#place = this.#packedPlace.split(this.length);
    } else this.#take(undefined);
    this.#isPlaced = true;
    this.length = 0;
    await unpack(packed, headers, (chunk) => this.#add(chunk));
    this.#leavePacked();
  }

  /** Puts bytes behind those in #place. */
  #add(chunk: Buffer): void {
    const { large, tooLong } = this.#options;
    const place = this.#place!;
    const length = this.length + chunk.length;
    if (length > large.most) throw tooLong();
    if (length > place.size && !place.grow(Math.min(large.most, 2 * length)) && !place.grow(length)) {
      // Where it has had all there is, a second time it would have no more.
      if (this.#hadAll) throw tooLong();
      throw new NoRoom(large.most);
    }
    place.memory.set(chunk, place.at + this.length);
    this.length = length;
  }

  #leavePacked(): void {
    this.#packedPlace?.release();
    this.#packedPlace = undefined;
  }

  /** Makes sure that there is room for so many bytes, or for as many as pages have. */
  #take(bytes: number | undefined): void {
    const { large, tooLong } = this.#options;
    if (bytes !== undefined && bytes > large.most) throw tooLong();
    if (this.#place && (this.#place.size >= (bytes ?? 0) || this.#place.grow(bytes!))) return;
    this.#place?.release();
    this.#place = undefined;
    this.#place = large.take(bytes);
  }
}
