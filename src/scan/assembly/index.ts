import { backslash, carry, equal, escapedOf, isEscape, mask, prefixXor, quote } from "./blocks";
import { level } from "./resource";

// Looks at every byte of the page once, and finds the ends of resources.
//
// 1. The page is indexed a segment of 8 KiB at a time, ahead of the walk, while a segment fits into the fastest cache.
//    For each block of 64 bytes `indexBlocks` makes bit masks (blocks.ts): which bytes are inside strings, and which
//    bytes outside strings are brackets or white space. The addresses of brackets become a list; the masks of white
//    space are kept for the whole page, for `emit`. What must not be inside a string, or outside, is noted in `wrong`.
// 2. `jump` goes over one resource. It takes one bracket after the other from the list, keeps the open ones in a stack
//    of bits, and ends at the bracket that closes the resource. It reads none of the bytes between brackets.
// 3. The pieces between brackets that lie directly in the resource, and not inside one of its members' values, are its
//    own level: there its names are. `jump` collects their addresses, and hands them to `level` (resource.ts), which
//    looks for the names that matter, once per segment, while the segment is in the cache.
//
// This file and resource.ts import each other. Together they are the scanner's hot loop: `resource` calls `jump`, and
// `jump` calls `level`. AssemblyScript has no closures, and to give `jump` a reference to `level` would make that an
// indirect call, which the compiler cannot see through. So the circle stays.

/** place for a copy of the page's last block */
const tail: usize = 512;
const segmentBytes: usize = 8192;
/** The list of brackets: 32-bit addresses. In the worst case each byte of a segment is a bracket, and up to 4 more
 *  entries behind the last one are written in vain. */
const list: usize = 4096;
/** The pieces of the resource's own level: by turns the address where a piece begins, and where it ends. It has as much
 *  room as the list of brackets. */
const levels: usize = 40_960;

/** the first byte that is not indexed yet */
let next: usize = 0;
/** behind the page's last byte */
let end: usize = 0;
/** where the mask of white space of the next block goes */
let spaces: usize = 0;
/** the next bracket of the list, and behind its last */
let cursor: usize = 0;
let listEnd: usize = 0;
/** all ones when the next block begins inside a string, else zero */
let inString: u64 = 0;
/** 1 when the first byte of the next block is escaped */
let escapeCarry: u64 = 0;
/** not zero when some byte is where JSON does not allow it */
let wrong: u64 = 0;
/** not zero when there was white space outside strings: all masks, or-ed */
let spaced: u64 = 0;
/** there were no control characters but line feeds */
let onlyLineFeeds: bool = true;

/** Begins a page, from `from` to before `to`. @param spaceMasks where its masks of white space go */
export function beginIndex(from: usize, to: usize, spaceMasks: usize): void {
  next = from;
  end = to;
  spaces = spaceMasks;
  cursor = listEnd = list;
  inString = escapeCarry = wrong = spaced = 0;
  onlyLineFeeds = true;
}

/** Indexes the rest of the page. Returns whether each byte of the page is where JSON allows it: no raw control
 *  character and no unknown escape inside a string; no backslash, and no control character but white space, outside. */
export function endIndex(): bool {
  while (next < end) segment();
  return wrong == 0;
}

/** Whether there is no white space outside strings at the offsets `from` to `to` of the page, which are indexed. */
export function isCompact(masks: usize, from: u32, to: u32): bool {
  // most pages are compact as a whole, and this is the only question
  if (spaced == 0) return true;
  let head: u64 = 0xffffffffffffffff << (from & 63);
  for (let block = from & ~63; block < to; block += 64) {
    let found = load<u64>(masks + ((block >> 3) as usize)) & head;
    head = 0xffffffffffffffff;
    if (to - block < 64) found &= ((1 as u64) << ((to - block) as u64)) - 1;
    if (found != 0) return false;
  }
  return true;
}

/** Goes over the resource whose `{` is at `at`, and gives the pieces of its own level to `level`.
 *  Returns the address behind its `}`; 0 when brackets do not match, when they are nested deeper than 62, when the page
 *  ends too early, or when `level` gives the page up. */
export function jump(at: usize): usize {
  // The open brackets as bits, the innermost lowest, 1 for `{` and 0 for `[`, below a leading 1. Before the resource it
  // is 1, directly inside the resource it is binary 11.
  let stack: u64 = 1;
  let bad: u64 = 0;
  let to = levels;
  while (true) {
    while (cursor == listEnd) {
      if (next >= end) return 0;
      to = flush(to);
      if (to == 0) return 0;
      segment();
    }
    let last: usize = 0;
    let i = cursor;
    // brackets of the entry in front of the resource, which the walk has read
    if (stack == 1) while (i < listEnd && load<u32>(i) < (at as u32)) i += 4;
    for (; i < listEnd; i += 4) {
      last = load<u32>(i) as usize;
      const byte = load<u8>(last) as u64;
      const kind = (byte >> 5) & 1;
      // In the codes of { and [ bit 1 is set and bit 2 is not; of } and ] it is the other way round. Where both bits
      // are equal, the byte is no bracket (see `brackets` below). Bit 5 is set in { and }, and not in [ and ].
      const opens = (byte & 2) != 0;
      const before = stack;
      bad |= ~((byte >> 1) ^ (byte >> 2)) & 1;
      bad |= select(before >> 62, (before ^ kind) & 1, opens);
      stack = select((before << 1) | kind, before >> 1, opens);
      // A piece of the own level ends at a bracket that opens a value or closes the resource (before it, the stack was
      // 3), and begins behind a bracket after which the stack is 3. Every bracket is stored, but `to` moves only for
      // these: so there is no branch.
      const begins = stack == 3;
      store<u32>(to, (last as u32) + (begins as u32));
      to += (((before == 3) as usize) | (begins as usize)) << 2;
      if (stack <= 1) break;
    }
    if (i < listEnd) {
      cursor = i + 4;
      return bad == 0 && flush(to) != 0 ? last + 1 : 0;
    }
    cursor = i;
  }
}

/** Gives `level` the pieces whose end is known. Returns where the next address goes; 0 when `level` gives the page up.
 *  A last piece that has only begun is kept. */
function flush(to: usize): usize {
  const whole = (to - levels) & ~7;
  if (whole != 0 && !level(levels, levels + whole)) return 0;
  if (levels + whole == to) return levels;
  store<u32>(levels, load<u32>(to - 4));
  return levels + 4;
}

/** Copies the page's last bytes, which are less than a block, to a place of their own, with digits behind them: those
 *  mean nothing here. What lies behind the page in memory might be anything. */
function copyTail(at: usize): usize {
  memory.fill(tail, 0x30, 64);
  memory.copy(tail, at, end - at);
  return tail;
}

/** Indexes the next segment: lists its brackets, and notes its white space. */
function segment(): void {
  // A page with white space is indented, and has line feeds in most blocks. To look for line feeds in every block,
  // without a branch, takes 1 ns a block; to branch where a block has any control character takes 4, as it is often
  // predicted wrongly. The fast way knows no other control character; a segment with one is indexed once more, in the
  // other way.
  if (spaced != 0 && onlyLineFeeds) {
    if (indexBlocks(true)) return;
    onlyLineFeeds = false;
  }
  indexBlocks(false);
}

/** Indexes the blocks of a segment. Returns false, and has then changed nothing but scratch memory, when `lineFeeds`
 *  and there is another control character.
 *  @param lineFeeds handle line feeds in every block, and expect no other control character */
// @ts-ignore: decorator
@inline function indexBlocks(lineFeeds: bool): bool {
  const q = i8x16.splat(quote as i8);
  const b = i8x16.splat(backslash as i8);
  // the bits in which the codes of the four brackets differ: 5b, 5d, 7b, 7d
  const differing = i8x16.splat(0x26);
  const any = i8x16.splat(0x7f);
  // a control character (below 0x20) has none of these bits
  const high = i8x16.splat(0xe0 as u8 as i8);
  const zero = i8x16.splat(0);
  const feed = i8x16.splat(0x0a);
  // for each lane the least byte of all blocks that is no line feed
  let least = i8x16.splat(-1);
  const till = min(next + segmentBytes, end);
  let to = list;
  let flaws: u64 = 0;
  let spacing: u64 = 0;
  let at = next;
  let out = spaces;
  let open = inString;
  let escapeFirst = escapeCarry;
  for (; at < till; at += 64) {
    const block = end - at < 64 ? copyTail(at) : at;
    const v0 = v128.load(block);
    const v1 = v128.load(block, 16);
    const v2 = v128.load(block, 32);
    const v3 = v128.load(block, 48);
    // quotes, without the escaped ones; few blocks have a backslash
    let quotes = mask(i8x16.eq(v0, q), i8x16.eq(v1, q), i8x16.eq(v2, q), i8x16.eq(v3, q));
    const b0 = i8x16.eq(v0, b);
    const b1 = i8x16.eq(v1, b);
    const b2 = i8x16.eq(v2, b);
    const b3 = i8x16.eq(v3, b);
    let backslashes: u64 = 0;
    if (escapeFirst != 0 || v128.any_true(v128.or(v128.or(b0, b1), v128.or(b2, b3)))) {
      backslashes = mask(b0, b1, b2, b3);
      let escaped = escapedOf(backslashes, escapeFirst);
      escapeFirst = carry;
      quotes &= ~escaped;
      while (escaped != 0) {
        flaws |= isEscape(at + (ctz(escaped) as usize) - 1) ? 0 : 1;
        escaped &= escaped - 1;
      }
    }
    // inside strings; the highest bit, spread over all, is where the next block begins
    const inside = prefixXor(quotes) ^ open;
    open = ((inside as i64) >> 63) as u64;
    flaws |= backslashes & ~inside;

    // One comparison for all four brackets: with the bits set in which they differ, each is 0x7f. The only other bytes
    // of which that is true are Y, y, _ and DEL, and outside strings none of these is JSON: `jump` notices them.
    let brackets =
      mask(
        i8x16.eq(v128.or(v0, differing), any),
        i8x16.eq(v128.or(v1, differing), any),
        i8x16.eq(v128.or(v2, differing), any),
        i8x16.eq(v128.or(v3, differing), any),
      ) & ~inside;
    // Four addresses are stored in any case, even if there are fewer brackets. A branch per bracket would be predicted
    // wrongly about once per block, which costs 5 ns where a block takes 15.
    const found = popcnt(brackets) as usize;
    store<u32>(to, (at as u32) + (ctz(brackets) as u32));
    brackets &= brackets - 1;
    store<u32>(to, (at as u32) + (ctz(brackets) as u32), 4);
    brackets &= brackets - 1;
    store<u32>(to, (at as u32) + (ctz(brackets) as u32), 8);
    brackets &= brackets - 1;
    store<u32>(to, (at as u32) + (ctz(brackets) as u32), 12);
    if (found > 4)
      for (let more = to + 16; more < to + (found << 2); more += 4) {
        brackets &= brackets - 1;
        store<u32>(more, (at as u32) + (ctz(brackets) as u32));
      }
    to += found << 2;

    let blanks = equal(v0, v1, v2, v3, 0x20) & ~inside;
    if (lineFeeds) {
      const f0 = i8x16.eq(v0, feed);
      const f1 = i8x16.eq(v1, feed);
      const f2 = i8x16.eq(v2, feed);
      const f3 = i8x16.eq(v3, feed);
      // `or` makes line feeds 0xff, so that they do not count here
      least = i8x16.min_u(least, i8x16.min_u(i8x16.min_u(v128.or(v0, f0), v128.or(v1, f1)), i8x16.min_u(v128.or(v2, f2), v128.or(v3, f3))));
      const feeds = mask(f0, f1, f2, f3);
      flaws |= feeds & inside;
      blanks |= feeds;
    } else if (v128.any_true(i8x16.eq(v128.and(i8x16.min_u(i8x16.min_u(v0, v1), i8x16.min_u(v2, v3)), high), zero))) {
      const controls = mask(
        i8x16.eq(v128.and(v0, high), zero),
        i8x16.eq(v128.and(v1, high), zero),
        i8x16.eq(v128.and(v2, high), zero),
        i8x16.eq(v128.and(v3, high), zero),
      );
      const breaks = equal(v0, v1, v2, v3, 0x0a) | equal(v0, v1, v2, v3, 0x0d) | equal(v0, v1, v2, v3, 0x09);
      flaws |= (controls & inside) | (controls & ~breaks);
      blanks |= controls;
    }
    spacing |= blanks;
    store<u64>(out, blanks);
    out += 8;
  }
  if (lineFeeds && v128.any_true(i8x16.eq(v128.and(least, high), zero))) return false;
  next = at;
  spaces = out;
  cursor = list;
  listEnd = to;
  inString = open;
  escapeCarry = escapeFirst;
  wrong |= flaws;
  spaced |= spacing;
  return true;
}
