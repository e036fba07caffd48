import { backslash, carry, equal, escapedOf, isEscape, mask, prefixXor, quote } from "./blocks";
import { level } from "./resource";

// Where brackets stand outside strings, made segment by segment ahead of the walker, so that it need not read what lies between them.

const tail: usize = 512;
const segmentBytes: usize = 8192;
/** 32-bit addresses. In the worst case each byte of a segment is a bracket; up to 4 more are stored in vain. */
const list: usize = 4096;
/** likewise: where the level of the resource itself begins and ends, by turns */
const levels: usize = 40_960;

/** first byte that was not looked at */
let next: usize = 0;
let end: usize = 0;
/** per block of the page, where white space stands outside strings: for `emit` */
let spaces: usize = 0;
let cursor: usize = 0;
let listEnd: usize = 0;
let inString: u64 = 0;
let escapeCarry: u64 = 0;
let wrong: u64 = 0;
/** masks that were not empty, or-ed */
let spaced: u64 = 0;
let onlyLineFeeds: bool = true;

export function beginIndex(from: usize, to: usize, spaceMasks: usize): void {
  next = from;
  end = to;
  spaces = spaceMasks;
  cursor = listEnd = list;
  inString = escapeCarry = wrong = spaced = 0;
  onlyLineFeeds = true;
}

/** Looks at all that is left. Whether no string held raw control characters or escapes that JSON does not have, and outside strings there were no
 *  control characters but white space, and no backslash. */
export function endIndex(): bool {
  while (next < end) segment();
  return wrong == 0;
}

/** Whether no white space stands outside strings from `from` to `to`, which was looked at. */
export function isCompact(masks: usize, from: u32, to: u32): bool {
  // of most pages this is all
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

/** Goes over the resource whose `{` is at `at` and answers the address behind its `}`; 0: brackets do not match, or are nested deeper than 60. Its own
 *  level (what lies not inside a deeper bracket) is given to `level` piece by piece. */
export function jump(at: usize): usize {
  // `stack` holds the open brackets as bits, `{` = 1, below a leading 1: directly inside the resource it is 3
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
    // those of the entry around it, which the walk has seen
    if (stack == 1) while (i < listEnd && load<u32>(i) < (at as u32)) i += 4;
    for (; i < listEnd; i += 4) {
      last = load<u32>(i) as usize;
      const byte = load<u8>(last) as u64;
      const kind = (byte >> 5) & 1;
      // { and [ have bit 1 set and bit 2 clear, } and ] the other way round
      const opens = (byte & 2) != 0;
      const before = stack;
      bad |= ~((byte >> 1) ^ (byte >> 2)) & 1;
      bad |= select(before >> 62, (before ^ kind) & 1, opens);
      stack = select((before << 1) | kind, before >> 1, opens);
      // the level ends where it opens a bracket or is closed, and begins behind the bracket that brings back to it
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

/** Hands over the pieces that are whole; a last one that has only begun is kept. */
function flush(to: usize): usize {
  const whole = (to - levels) & ~7;
  if (whole != 0 && !level(levels, levels + whole)) return 0;
  if (levels + whole == to) return levels;
  store<u32>(levels, load<u32>(to - 4));
  return levels + 4;
}

/** The page's last bytes with zeros (0x30) behind them, which are nothing special, in a place of their own. */
function copyTail(at: usize): usize {
  memory.fill(tail, 0x30, 64);
  memory.copy(tail, at, end - at);
  return tail;
}

/** Lists the brackets of the next segment and notes its white space. */
function segment(): void {
  // Where there is white space there are line feeds, in most blocks: then these are handled without a branch, for 1 ns a block instead of 4, and nothing
  // but them is foreseen.
  if (spaced != 0 && onlyLineFeeds) {
    if (look(true)) return;
    onlyLineFeeds = false;
  }
  look(false);
}

/** @param lineFeeds no other control character is foreseen; false: there was one, and nothing is done */
// @ts-ignore: decorator
@inline function look(lineFeeds: bool): bool {
  const q = i8x16.splat(quote as i8);
  const b = i8x16.splat(backslash as i8);
  const differing = i8x16.splat(0x26);
  const any = i8x16.splat(0x7f);
  const high = i8x16.splat(0xe0 as u8 as i8);
  const zero = i8x16.splat(0);
  const feed = i8x16.splat(0x0a);
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
    const inside = prefixXor(quotes) ^ open;
    open = ((inside as i64) >> 63) as u64;
    flaws |= backslashes & ~inside;

    // One mask for all four brackets: with the bits set in which they differ they are 0x7f. Of other bytes so are only Y, y, _ and DEL, and outside
    // strings none of these is JSON.
    let brackets =
      mask(
        i8x16.eq(v128.or(v0, differing), any),
        i8x16.eq(v128.or(v1, differing), any),
        i8x16.eq(v128.or(v2, differing), any),
        i8x16.eq(v128.or(v3, differing), any),
      ) & ~inside;
    // Four are stored whether there are so many or not: a branch per bracket would be mispredicted about once per block, for 5 ns of its 15
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
      // line feeds become 0xff
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
