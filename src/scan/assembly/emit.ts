// Copies resources as lines, without the white space outside strings.
//
// 1. A resource without such white space is copied as it is.
// 2. Otherwise index.ts has noted, for each block of 64 bytes, which bytes are white space outside strings. A block
//    that has none inside the resource is copied whole.
// 3. In all other blocks 8 bytes at a time are squeezed: their 8 bits of the mask say which bytes stay. A shuffle, an
//    instruction that picks lanes by a list of their numbers, moves those to the front; the list comes from a table
//    with one for each of the 256 masks. One shuffle squeezes 16 bytes, each half to its own front. 8 bytes are stored
//    of each half, but the address moves on only by as many as stay, so the next store overwrites the rest. No branch
//    depends on the bytes.

/** The table: for each mask of 8 bits the numbers of its set bits in order, in 8 bytes. `fill` writes it once. */
const shuffles: usize = 1024;
/** The same for the upper half of 16 bytes: the numbers are greater by 8. */
const upperShuffles: usize = 118_784;

export function fill(): void {
  for (let bits: u32 = 0; bits < 256; bits++) {
    let to = (bits as usize) << 3;
    for (let bit: u32 = 0; bit < 8; bit++) {
      if (((bits >> bit) & 1) == 0) continue;
      store<u8>(shuffles + to, bit as u8);
      store<u8>(upperShuffles + to, (bit + 8) as u8);
      to++;
    }
  }
}

/** Copies the rows from the address `row` to before `last` as lines to `out`, and returns the address behind the last
 *  line. It may overwrite up to 64 bytes behind that.
 *  @param spaces the page's masks of white space */
export function copyRows(page: usize, spaces: usize, row: usize, last: usize, out: usize): usize {
  for (; row < last; row += 64) {
    const start = load<u32>(row) as usize;
    const end = load<u32>(row, 4) as usize;
    if (load<u32>(row, 8)) {
      memory.copy(out, page + start, end - start);
      out += end - start;
    } else out = squeeze(page, spaces, start, end, out);
    store<u8>(out++, 0x0a);
  }
  return out;
}

/** Copies the resource at the offsets `start` to `end` of the page, block by block of the page. */
function squeeze(page: usize, spaces: usize, start: usize, end: usize, out: usize): usize {
  // of the first block, only the bytes from the resource on
  let head: u64 = 0xffffffffffffffff << (start & 63);
  for (let block = start & ~63; block < end; block += 64) {
    let keep = ~load<u64>(spaces + (block >> 3)) & head;
    head = 0xffffffffffffffff;
    if (end - block < 64) keep &= ((1 as u64) << ((end - block) as u64)) - 1;
    const at = page + block;
    if (keep == 0xffffffffffffffff) {
      v128.store(out, v128.load(at));
      v128.store(out, v128.load(at, 16), 16);
      v128.store(out, v128.load(at, 32), 32);
      v128.store(out, v128.load(at, 48), 48);
      out += 64;
      continue;
    }
    out = sixteen(at, keep << 3, keep >> 5, out);
    out = sixteen(at + 16, keep >> 13, keep >> 21, out);
    out = sixteen(at + 32, keep >> 29, keep >> 37, out);
    out = sixteen(at + 48, keep >> 45, keep >> 53, out);
  }
  return out;
}

/** Squeezes 16 bytes. The bits 3 to 10 of `lower` and of `upper` say which of them stay; so these, and no others, are
 *  offsets in the tables. */
// @ts-ignore: decorator
@inline function sixteen(at: usize, lower: u64, upper: u64, out: usize): usize {
  const low = (lower as usize) & 0x7f8;
  const high = (upper as usize) & 0x7f8;
  const numbers = v128.load64_lane(high, v128.load64_zero(low, shuffles), 1, upperShuffles);
  const squeezed = i8x16.swizzle(v128.load(at), numbers);
  v128.store64_lane(out, squeezed, 0);
  out += popcnt(low);
  v128.store64_lane(out, squeezed, 1);
  return out + popcnt(high);
}
