import { backslashes16, carry, closingBraces16, colons16, commas16, escapedOf, isEscape, mask } from "./blocks";
import { lineFeeds16, openingBraces16, prefixXor, quotes16, spaces16, whiteLanes } from "./blocks";
import { beginGrammar, blockMasks, blockMasksBytes, checkSegment, emptyList, list, listEnd } from "./grammar";
import { level } from "./resource";

// Looks at every byte of the page once, checks the grammar of JSON, and finds the ends of resources.
//
// 1. The page is indexed a segment of 8 KiB at a time, ahead of the walk, while a segment fits into the fastest cache.
//    For each block of 64 bytes `makeMasks` makes bit masks (blocks.ts): which bytes are inside strings, and which
//    bytes outside strings are brackets, white space, and so on. From these `checkSegment` (grammar.ts) checks the
//    grammar, and makes the list of brackets. The masks of white space are kept for the whole page, for `emit`.
// 2. `jump` goes over one resource. It takes one bracket after the other from the list, keeps the open ones in a stack
//    of bits, and ends at the bracket that closes the resource. It reads none of the bytes between brackets. It checks
//    that brackets match, and that each lies in an object or in an array as grammar.ts says it must.
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
/** The pieces of the resource's own level: by turns the address where a piece begins, and where it ends. It has as much
 *  room as the list of brackets. */
const levels: usize = 40_960;

/** the first byte of the segment that was indexed last */
let segmentAt: usize = 0;
/** the first byte that is not indexed yet */
let next: usize = 0;
/** behind the page's last byte */
let end: usize = 0;
/** where the mask of white space of the next block goes */
let spaces: usize = 0;
/** the next bracket of the list */
let cursor: usize = 0;
/** all ones when the next block begins inside a string, else zero */
let inString: u64 = 0;
/** 1 when the first byte of the next block is escaped */
let escapeCarry: u64 = 0;
/** some byte is where JSON does not allow it */
let isWrong: bool = false;
/** not zero when there was white space outside strings: all masks, or-ed */
let spaced: u64 = 0;
/** there were other control characters than line feeds */
let otherSpace: bool = false;

/** Begins a page, from `from` to before `to`.
 *  @param spaceMasks where its masks of white space go
 *  @param mark how many bytes of a byte order mark it begins with */
export function beginIndex(from: usize, to: usize, spaceMasks: usize, mark: usize): void {
  beginGrammar(mark);
  segmentAt = next = from;
  end = to;
  spaces = spaceMasks;
  cursor = list;
  inString = escapeCarry = spaced = 0;
  isWrong = otherSpace = false;
}

/** Indexes the rest of the page. Returns whether all of the page is JSON, as far as it can be told without the stack of
 *  open brackets: the walk (walk.ts) and `jump` have that. */
export function endIndex(): bool {
  while (next < end) segment();
  return !isWrong;
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
 *  Returns the address behind its `}`; 0 when brackets do not match, or do not lie where they must, when they are
 *  nested deeper than 62, when the page ends too early, or when `level` gives the page up. */
export function jump(at: usize): usize {
  // The open brackets as bits, the innermost lowest, 1 for `{` and 0 for `[`, below a leading 1. Before the resource it
  // is 1, directly inside the resource it is binary 11.
  let stack: u64 = 1;
  let bad: u64 = 0;
  let from = segmentAt;
  let to = levels;
  while (true) {
    while (cursor == listEnd) {
      if (next >= end) return 0;
      to = flush(to);
      if (to == 0) return 0;
      segment();
      from = segmentAt;
    }
    let last: usize = 0;
    let i = cursor;
    // brackets of the entry in front of the resource, which the walk has read
    if (stack == 1) while (i < listEnd && load<u32>(i) < (at as u32)) i += 4;
    for (; i < listEnd; i += 4) {
      last = load<u32>(i) as usize;
      const byte = load<u8>(last) as u64;
      // bit 5 is set in { and }, and not in [ and ]; bit 1 is set in { and [, and not in } and ]
      const kind = (byte >> 5) & 1;
      const opens = (byte & 2) != 0;
      const before = stack;
      // in an array the first mask of the block counts, in an object the second one
      const place = (last - from) as u64;
      const forbidden = load<u64>(blockMasks + (((place >> 6) * blockMasksBytes + ((before & 1) << 3)) as usize));
      bad |= (forbidden >> (place & 63)) & 1;
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

/** Copies the page's last bytes, which are up to a block, to a place of their own, with digits behind them: what lies
 *  behind the page in memory might be anything. */
function copyTail(at: usize): usize {
  memory.fill(tail, 0x30, 80);
  memory.copy(tail, at, end - at);
  return tail;
}

/** Indexes the next segment. Most pages have no white space outside strings, so a segment is first read as if it had
 *  none, which takes a fifth less time. Of the others most have spaces and line feeds only, which is the second try. */
function segment(): void {
  if (
    !(spaced == 0 && makeMasks(noSpace) && checkSegment(true, next, behindMasks, spaces)) &&
    !(!otherSpace && makeMasks(lineFeeds) && checkSegment(false, next, behindMasks, spaces)) &&
    !(makeMasks(anySpace) && checkSegment(false, next, behindMasks, spaces))
  ) {
    // The page is given up, so nothing more of it is read.
    isWrong = true;
    next = end;
    cursor = emptyList();
    return;
  }
  spaces += ((behindMasks - next + 63) >> 6) << 3;
  segmentAt = next;
  next = behindMasks;
  cursor = list;
  inString = nextInString;
  escapeCarry = nextEscapeCarry;
}

// what white space `makeMasks` looks for: none; spaces and line feeds; all four kinds
const noSpace = 0;
const lineFeeds = 1;
const anySpace = 2;

// results of `makeMasks`
/** the address behind the bytes that the masks are of */
let behindMasks: usize = 0;
/** what `inString` and `escapeCarry` are there */
let nextInString: u64 = 0;
let nextEscapeCarry: u64 = 0;

/** Makes the masks of the next segment: for `checkSegment`, and those of white space. Returns false when a string holds
 *  what it must not, or when there is a control character that is not looked for. A space that is not looked for is
 *  taken for a scalar, which `checkSegment` refuses. */
// @ts-ignore: decorator
@inline function makeMasks(space: i32): bool {
  const q = v128.load(quotes16);
  const b = v128.load(backslashes16);
  const blank = v128.load(spaces16);
  const comma = v128.load(commas16);
  const colon = v128.load(colons16);
  const openingBrace = v128.load(openingBraces16);
  const closingBrace = v128.load(closingBraces16);
  const white = v128.load(space == lineFeeds ? lineFeeds16 : whiteLanes);
  // for each lane the least byte of all blocks, without the white space that is looked for
  let least = i8x16.splat(-1);
  let flaws: u64 = 0;
  let spacing: u64 = 0;
  let at = next;
  const till = min(next + segmentBytes, end);
  let masks = blockMasks;
  let out = spaces;
  let open = inString;
  let escapeFirst = escapeCarry;
  const lastBlock = end - 64;
  for (; at < till; at += 64) {
    let block = at;
    // bytes that do not belong to the page any more; they are taken for a string
    let beyond: u64 = 0;
    // of a whole block at the page's end, the next byte is looked at, too
    if (at >= lastBlock) {
      block = copyTail(at);
      if (at > lastBlock) beyond = (-1 as u64) << ((end - at) as u64);
    }
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
    if (escapeFirst != 0 || v128.any_true(v128.or(v128.or(b0, b1), v128.or(b2, b3)))) {
      let escaped = escapedOf(mask(b0, b1, b2, b3), escapeFirst);
      escapeFirst = carry;
      quotes &= ~escaped;
      for (; escaped != 0; escaped &= escaped - 1) flaws |= isEscape(at + (ctz(escaped) as usize) - 1) ? 0 : 1;
    }
    // inside strings; the highest bit, spread over all, is where the next block begins
    const inside = prefixXor(quotes) ^ open;
    open = ((inside as i64) >> 63) as u64;

    // with bit 5 set, [ is { and ] is }
    const l0 = v128.or(v0, blank);
    const l1 = v128.or(v1, blank);
    const l2 = v128.or(v2, blank);
    const l3 = v128.or(v3, blank);
    const o0 = i8x16.eq(l0, openingBrace);
    const o1 = i8x16.eq(l1, openingBrace);
    const o2 = i8x16.eq(l2, openingBrace);
    const o3 = i8x16.eq(l3, openingBrace);
    const r0 = v128.or(o0, i8x16.eq(l0, closingBrace));
    const r1 = v128.or(o1, i8x16.eq(l1, closingBrace));
    const r2 = v128.or(o2, i8x16.eq(l2, closingBrace));
    const r3 = v128.or(o3, i8x16.eq(l3, closingBrace));
    // To bring masks out of the registers takes the most time. Three of them have room in one: no byte is two of a
    // comma, an opening bracket, and what may stand in front of a colon, a quote or white space.
    const signs = mask(
      v128.or(v128.or(o0, i8x16.eq(v0, comma)), i8x16.eq(v128.load(block, 1), colon)),
      v128.or(v128.or(o1, i8x16.eq(v1, comma)), i8x16.eq(v128.load(block, 17), colon)),
      v128.or(v128.or(o2, i8x16.eq(v2, comma)), i8x16.eq(v128.load(block, 33), colon)),
      v128.or(v128.or(o3, i8x16.eq(v3, comma)), i8x16.eq(v128.load(block, 49), colon)),
    );
    let brackets: u64 = 0;
    let blanks: u64 = 0;
    if (space == noSpace) {
      least = i8x16.min_u(least, i8x16.min_u(i8x16.min_u(v0, v1), i8x16.min_u(v2, v3)));
      brackets = mask(r0, r1, r2, r3);
    } else {
      // Where tabs and carriage returns count, too, the byte is looked up: one above 15 gives zero. No such byte is a
      // bracket, so they have room in the masks of brackets.
      const w0 = space == lineFeeds ? i8x16.eq(white, v0) : i8x16.swizzle(white, v0);
      const w1 = space == lineFeeds ? i8x16.eq(white, v1) : i8x16.swizzle(white, v1);
      const w2 = space == lineFeeds ? i8x16.eq(white, v2) : i8x16.swizzle(white, v2);
      const w3 = space == lineFeeds ? i8x16.eq(white, v3) : i8x16.swizzle(white, v3);
      // `or` makes them 0xff, so that they do not count here
      least = i8x16.min_u(least, i8x16.min_u(i8x16.min_u(v128.or(v0, w0), v128.or(v1, w1)), i8x16.min_u(v128.or(v2, w2), v128.or(v3, w3))));
      const both = mask(v128.or(r0, w0), v128.or(r1, w1), v128.or(r2, w2), v128.or(r3, w3));
      const all = mask(
        v128.or(i8x16.eq(v0, blank), w0),
        v128.or(i8x16.eq(v1, blank), w1),
        v128.or(i8x16.eq(v2, blank), w2),
        v128.or(i8x16.eq(v3, blank), w3),
      );
      flaws |= both & all & inside;
      brackets = both & ~all;
      blanks = all & ~inside;
      spacing |= blanks;
    }
    store<u64>(out, blanks);
    store<u64>(masks, inside | beyond);
    store<u64>(masks, quotes, 8);
    store<u64>(masks, brackets & ~inside, 16);
    store<u64>(masks, signs & ~inside, 24);
    out += 8;
    masks += blockMasksBytes;
  }
  spaced |= spacing;
  behindMasks = at;
  nextInString = open;
  nextEscapeCarry = escapeFirst;
  const controls = v128.any_true(i8x16.lt_u(least, blank));
  if (space == lineFeeds && controls) otherSpace = true;
  return flaws == 0 && !controls;
}
