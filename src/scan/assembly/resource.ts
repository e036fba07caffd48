import { backslash, backslashes16, high16, letterI16, letterL16, letterM16, letterR16, letterV16, low16 } from "./blocks";
import { openingBraces16, quote, quotes16, spaces16 } from "./blocks";
import { isCompact, jump } from "./index";
import { referenceIn } from "./reference";
import { baseURL, letters, spanBytes, wantedBytes, wantedCount, wantedNames } from "./rows";
import { equalBytes, beforeId, beforeMeta, beforeType, beforeUpdated, beforeVersion, keep, same } from "./same";
import { closing, escaped, notASCII, member, name, nameLength, behind as over, put, scalar, space, value } from "./walk";

// Finds what matters in a resource: its type, id, lastUpdated and versionId, and where the values of wanted members
// lie.
//
// 1. `resource` lets `jump` (index.ts) find the resource's end. `jump` gives the pieces of the resource's own level to
//    `level`: the text between the brackets of its members' values.
// 2. In a piece, a name that matters begins with a quote and one of a few letters. `pieces` looks for these two bytes,
//    and for backslashes, in 32 places at a time. A walk from member to member would have to find the end of each
//    string before it could look at the next one, which takes 14 ns a member.
// 3. A place that is found may be a name, or text that looks like one inside a string. It is a name if the whole name
//    and its closing quote are there and a colon follows: inside a string a quote would have a backslash before it.
// 4. Where a piece has a backslash that argument does not hold, and names may be spelled with escapes. So the piece is
//    walked member by member (`walkLevel`).
// 5. The first piece is compared with that of the resource before (same.ts): nearly all resources of a server begin
//    with resourceType, id and meta in one order, so this is often all that is needed.
// 6. `meta` is one value of the own level. When the resource's end is known, lastUpdated and versionId are looked for
//    in it in the same three ways: by comparing, by searching, by walking.
//
// index.ts says why it and this file import each other.

let page: usize = 0;
/** the resource's row in the table, see scan.ts */
let row: usize = 0;
let start: usize = 0;
/** address of the value of `meta`, if it is an object, and the address behind it; 0: not known yet */
let meta: usize = 0;
let metaEnd: usize = 0;

/** the names of the wanted members, see rows.ts */
let wanted: usize = 0;
/** the source's base URL, see rows.ts */
let base: usize = 0;
/** how wantedMembers members are wanted */
let wantedMembers: u32 = 0;
/** The first letters of all names that are looked for: lane n is all ones for the letter 0x60 + n, or 0x70 + n. */
let lowLetters: v128 = i64x2.splat(0);
let highLetters: v128 = i64x2.splat(0);
/** where the spans of this resource's wanted members go */
let spans: usize = 0;
/** the span of a wanted member whose value has brackets, so that its end is not known yet */
let pending: usize = 0;
/** a wanted member was found in this resource */
let took: bool = false;

/** Begins a page. @param expected what its resources should be, see rows.ts */
export function beginResources(expected: usize): void {
  wantedMembers = load<u32>(expected, wantedCount);
  wanted = expected + wantedNames;
  base = expected + baseURL;
  lowLetters = v128.load(expected, letters);
  highLetters = v128.load(expected, letters + 16);
}

/** Reads the resource whose `{` is at `at`: fills its row at `to`, and the spans of the wanted members at `spansTo`.
 *  Returns the address behind it; 0 gives the page up.
 *  @param offset address of the page
 *  @param masks its masks of white space */
export function resource(at: usize, offset: usize, masks: usize, to: usize, spansTo: usize): usize {
  page = offset;
  row = to;
  start = at;
  spans = spansTo;
  meta = metaEnd = pending = 0;
  took = false;
  for (let i: u32 = 0; i < wantedMembers; i++) {
    const span = spans + (i as usize) * spanBytes;
    store<u64>(span, 0);
    store<u32>(span, 0, 8);
  }
  // type, id, lastUpdated, versionId
  v128.store(row, i64x2.splat(0), 24);
  v128.store(row, i64x2.splat(0), 40);
  const behind = jump(at);
  if (behind == 0 || (meta != 0 && !sameMeta() && !searchMeta() && !walkMeta())) return 0;
  const from = (at - page) as u32;
  const end = (behind - page) as u32;
  store<u32>(row, from);
  store<u32>(row, end, 4);
  store<u32>(row, isCompact(masks, from, end) ? 1 : 0, 8);
  return behind;
}

/** Looks at pieces of the resource's own level. Each is a pair of addresses in the list from `pairs` to `last`: from
 *  behind the resource's `{`, or behind the closing bracket of a value, to the next bracket. Returns false to give the
 *  page up. */
export function level(pairs: usize, last: usize): bool {
  return wantedMembers == 0 ? pieces(pairs, last, false) : pieces(pairs, last, true);
}

/** Compiled twice, with `more` as a constant. @param more look for wanted members, too */
// @ts-ignore: decorator
@inline function pieces(pairs: usize, last: usize, more: bool): bool {
  const q = v128.load(quotes16);
  const b = v128.load(backslashes16);
  const i = v128.load(letterI16);
  const m = v128.load(letterM16);
  const r = v128.load(letterR16);
  const low = v128.load(low16);
  const high = v128.load(high16);
  const lows = lowLetters;
  const highs = highLetters;
  for (; pairs < last; pairs += 8) {
    const from = load<u32>(pairs) as usize;
    const to = load<u32>(pairs, 4) as usize;
    if (meta != 0 && metaEnd == 0) metaEnd = from;
    if (more && pending != 0) {
      store<u32>(pending, (from - page) as u32, 4);
      store<u32>(pending, referenceIn(page + (load<u32>(pending) as usize), from, base), 8);
      pending = 0;
    }
    const head = from == start + 1;
    if (head && sameHead(to)) continue;
    // Most pieces are shorter than 32 bytes and hold no name that matters, so both branches are mostly predicted
    // rightly.
    for (let at = from; at < to; at += 32) {
      const v0 = v128.load(at);
      const v1 = v128.load(at, 16);
      const n0 = v128.load(at, 1);
      const n1 = v128.load(at, 17);
      // n0 and n1 are the bytes behind those of v0 and v1. With `more`, a shuffle looks their letters up: it gives the
      // lane of that number, and 0 for numbers above 15, that is for all bytes that are not among the 16 letters.
      const l0 = more
        ? v128.or(i8x16.swizzle(lows, v128.xor(n0, low)), i8x16.swizzle(highs, v128.xor(n0, high)))
        : v128.or(v128.or(i8x16.eq(n0, i), i8x16.eq(n0, m)), i8x16.eq(n0, r));
      const l1 = more
        ? v128.or(i8x16.swizzle(lows, v128.xor(n1, low)), i8x16.swizzle(highs, v128.xor(n1, high)))
        : v128.or(v128.or(i8x16.eq(n1, i), i8x16.eq(n1, m)), i8x16.eq(n1, r));
      const h0 = v128.and(i8x16.eq(v0, q), l0);
      const h1 = v128.and(i8x16.eq(v1, q), l1);
      let hits =
        ((i8x16.bitmask(v128.or(h0, i8x16.eq(v0, b))) as u32) as u64) | (((i8x16.bitmask(v128.or(h1, i8x16.eq(v1, b))) as u32) as u64) << 16);
      if (to - at < 32) hits &= ((1 as u64) << ((to - at) as u64)) - 1;
      if (hits != 0) {
        const behind = more ? moreNames(at, hits, from, to) : names(at, hits, from, to);
        if (behind == 0) return false;
        if (behind > at) break;
      }
    }
    // kept only without wanted members, because `sameHead` would pass over these
    if (head && !(more && took)) keepHead(to);
  }
  return true;
}

/** Whether the resource's first piece, which ends at the bracket `to`, has the same bytes as that of the resource
 *  before, apart from the type and the id, and ends with `"meta":`. Then these three are taken from it. */
function sameHead(to: usize): bool {
  const typeFrom = same(beforeType, start);
  if (typeFrom == 0) return false;
  const typeTo = closing(typeFrom);
  const typeCoded = escaped || notASCII;
  const idFrom = typeTo == 0 ? (0 as usize) : same(beforeId, typeTo);
  if (idFrom == 0) return false;
  const idTo = closing(idFrom);
  if (idTo == 0 || same(beforeMeta, idTo) != to + 1) return false;
  put(page, row + 24, typeFrom, typeTo, typeCoded);
  put(page, row + 32, idFrom, idTo, escaped || notASCII);
  meta = to;
  metaEnd = 0;
  return true;
}

/** Keeps the bytes between the values of the first piece, for `sameHead`. Where the members come in another order,
 *  `keep` gets an end before its start, and keeps nothing. */
function keepHead(to: usize): void {
  const type = load<u32>(row, 24) as usize;
  const typeTo = (load<u32>(row, 28) & 0x7fffffff) as usize;
  const id = load<u32>(row, 32) as usize;
  const idTo = (load<u32>(row, 36) & 0x7fffffff) as usize;
  if (meta != to) return;
  keep(beforeType, start, page + type);
  keep(beforeId, page + typeTo, page + id);
  keep(beforeMeta, page + idTo, to + 1);
}

/** Takes the names at `hits`, a bit for each byte from `at` on. Returns `at`; or `to` when the whole piece was walked
 *  over; or 0 to give the page up. */
function names(at: usize, hits: u64, from: usize, to: usize): usize {
  for (; hits != 0; hits &= hits - 1) {
    const hit = at + (ctz(hits) as usize);
    // with backslashes, names may be spelled with escapes, and quotes may be inside strings
    if (load<u8>(hit) == backslash) return walkLevel(from, to) ? to : 0;
    const length = known(hit);
    if (length == 0) continue;
    const colon = space(hit + length);
    // without a colon behind it, it is a string
    if (load<u8>(colon) == 0x3a && colon < to && !take(length, space(colon + 1), to)) return 0;
  }
  return at;
}

/** As `names`, with the wanted members. */
function moreNames(at: usize, hits: u64, from: usize, to: usize): usize {
  for (; hits != 0; hits &= hits - 1) {
    const hit = at + (ctz(hits) as usize);
    if (load<u8>(hit) == backslash) return walkLevel(from, to) ? to : 0;
    const length = known(hit);
    const index = wantedAt(hit);
    if (length == 0 && index == wantedMembers) continue;
    const colon = space(hit + (index == wantedMembers ? length : (load<u32>(wanted + (index as usize) * wantedBytes) as usize)));
    // without a colon behind it, it is a string
    if (load<u8>(colon) != 0x3a) continue;
    const place = space(colon + 1);
    if (length != 0 && !take(length, place, to)) return 0;
    if (index != wantedMembers && !takeSpan(index, place, to)) return 0;
  }
  return at;
}

/** The length, with both quotes, of the name whose quote is at `at`, if it is id, meta or resourceType; else 0. */
// @ts-ignore: decorator
@inline function known(at: usize): usize {
  if (load<u32>(at) == 0x22646922) return 4;
  if (load<u32>(at, 1) == 0x6174656d && load<u8>(at, 5) == quote) return 6;
  if (load<u64>(at, 1) == 0x656372756f736572 && load<u32>(at, 9) == 0x65707954 && load<u8>(at, 13) == quote) return 14;
  return 0;
}

/** The index of the wanted member whose name has its quote at `at`; `wantedMembers` if it is none of them. */
function wantedAt(at: usize): u32 {
  const word = load<u64>(at);
  let name = wanted;
  let index: u32 = 0;
  for (; index < wantedMembers; index++, name += wantedBytes) {
    const length = load<u32>(name) as usize;
    if ((word & load<u64>(name, 8)) == load<u64>(name, 16) && (length <= 8 || equalBytes(name + 24, at + 8, length - 8))) break;
  }
  return index;
}

/** Notes where the value of the wanted member `index` lies: it begins at `at`. */
function takeSpan(index: u32, at: usize, to: usize): bool {
  took = true;
  const span = spans + (index as usize) * spanBytes;
  store<u32>(span, (at - page) as u32);
  const byte = load<u8>(at);
  if (byte == 0x7b || byte == 0x5b) {
    // its end is where the next piece of the own level begins
    pending = span;
    return true;
  }
  const behind = value(at, 1);
  store<u64>(span, ((behind - page) as u32) as u64, 4);
  return behind != 0;
}

/** Takes the names of the piece from `from` to `to` by walking from member to member, which always works. */
function walkLevel(from: usize, to: usize): bool {
  let at = from;
  let first = from == start + 1;
  while ((at = member(at, first)) != 0) {
    first = false;
    const length = known(name - 1);
    if (length != 0 && !take(length, at, to)) return false;
    if (wantedMembers != 0) {
      const index = wantedAt(name - 1);
      if (index != wantedMembers && !takeSpan(index, at, to)) return false;
    }
    if (at >= to) return at == to;
    at = load<u8>(at) == quote ? value(at, 1) : scalar(at);
    if (at == 0) return false;
  }
  return over == to + 1;
}

/** Takes the value at `at` of id, meta or resourceType, told apart by `length`, that of the name with its quotes. Where
 *  a member comes twice, the later one replaces the earlier one. */
function take(length: usize, at: usize, to: usize): bool {
  if (length == 6) {
    meta = at == to && load<u8>(at) == 0x7b ? at : 0;
    metaEnd = 0;
    return true;
  }
  return putText(row + (length == 4 ? 32 : 24), at);
}

/** Writes the span of the string at `at` to `to`; an empty span if the value is no string. */
function putText(to: usize, at: usize): bool {
  let from: usize = 0;
  let last: usize = 0;
  if (load<u8>(at) == quote) {
    from = at + 1;
    last = closing(from);
    if (last == 0) return false;
  }
  put(page, to, from, last, escaped || notASCII);
  return true;
}

/** Whether `meta` begins with the same bytes as that of the resource before, apart from the values of versionId and
 *  lastUpdated, and has neither of these names a second time. Then the two are taken. */
function sameMeta(): bool {
  const versionFrom = same(beforeVersion, meta);
  if (versionFrom == 0) return false;
  const versionTo = closing(versionFrom);
  const versionCoded = escaped || notASCII;
  const updatedFrom = versionTo == 0 ? (0 as usize) : same(beforeUpdated, versionTo);
  if (updatedFrom == 0) return false;
  const updatedTo = closing(updatedFrom);
  if (updatedTo == 0) return false;
  const updatedCoded = escaped || notASCII;
  const q = v128.load(quotes16);
  const b = v128.load(backslashes16);
  const l = v128.load(letterL16);
  const n = v128.load(letterV16);
  let hits: u64 = 0;
  for (let from = updatedTo; from < metaEnd; from += 16) {
    const v = v128.load(from);
    const next = v128.load(from, 1);
    let found = i8x16.bitmask(v128.or(v128.and(i8x16.eq(v, q), v128.or(i8x16.eq(next, l), i8x16.eq(next, n))), i8x16.eq(v, b)));
    if (metaEnd - from < 16) found &= (1 << ((metaEnd - from) as i32)) - 1;
    hits |= found as u64;
  }
  if (hits != 0) return false;
  put(page, row + 48, versionFrom, versionTo, versionCoded);
  put(page, row + 40, updatedFrom, updatedTo, updatedCoded);
  return true;
}

/** Searches `meta` for lastUpdated and versionId. Returns false, so that `meta` must be walked, where it has a
 *  backslash, or such a name behind an inner bracket, where it may be a name of a deeper object. */
function searchMeta(): bool {
  const q = v128.load(quotes16);
  const b = v128.load(backslashes16);
  const l = v128.load(letterL16);
  const n = v128.load(letterV16);
  const bit = v128.load(spaces16);
  const open = v128.load(openingBraces16);
  let deeper = false;
  for (let at = meta + 1; at < metaEnd; at += 16) {
    const v = v128.load(at);
    const next = v128.load(at, 1);
    const names = v128.and(i8x16.eq(v, q), v128.or(i8x16.eq(next, l), i8x16.eq(next, n)));
    let hits = i8x16.bitmask(v128.or(names, v128.or(i8x16.eq(v, b), i8x16.eq(v128.or(v, bit), open))));
    if (metaEnd - at < 16) hits &= (1 << ((metaEnd - at) as i32)) - 1;
    for (; hits != 0; hits &= hits - 1) {
      const hit = at + (ctz(hits) as usize);
      const byte = load<u8>(hit);
      if (byte == backslash) return false;
      if (byte != quote) {
        deeper = true;
        continue;
      }
      if (deeper) return false;
      const updated = isUpdated(hit + 1) && load<u8>(hit, 12) == quote;
      if (!updated && !(isVersion(hit + 1) && load<u8>(hit, 10) == quote)) continue;
      const colon = space(hit + (updated ? 13 : 11));
      if (load<u8>(colon) == 0x3a && !putText(row + (updated ? 40 : 48), space(colon + 1))) return false;
    }
  }
  keepMeta();
  return true;
}

/** Keeps the bytes around the two values, for `sameMeta`. */
function keepMeta(): void {
  const updated = load<u32>(row, 40) as usize;
  const version = load<u32>(row, 48) as usize;
  const versionTo = (load<u32>(row, 52) & 0x7fffffff) as usize;
  keep(beforeVersion, meta, page + version);
  keep(beforeUpdated, page + versionTo, page + updated);
}

/** Takes lastUpdated and versionId by walking from member to member. */
function walkMeta(): bool {
  v128.store(row, i64x2.splat(0), 40);
  let at = meta + 1;
  for (let first = true; at != 0; first = false) {
    at = member(at, first);
    if (at == 0) return over == metaEnd;
    if (nameLength == 11 && isUpdated(name) && !putText(row + 40, at)) return false;
    if (nameLength == 9 && isVersion(name) && !putText(row + 48, at)) return false;
    at = value(at, 1);
  }
  return false;
}

// @ts-ignore: decorator
@inline function isUpdated(at: usize): bool {
  return load<u64>(at) == 0x616470557473616c && (load<u32>(at, 8) & 0xffffff) == 0x646574;
}

// @ts-ignore: decorator
@inline function isVersion(at: usize): bool {
  return load<u64>(at) == 0x496e6f6973726576 && load<u8>(at, 8) == 0x64;
}
