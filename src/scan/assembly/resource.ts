import { backslash, quote } from "./blocks";
import { isCompact, jump } from "./index";
import { referenceIn } from "./reference";
import { baseURL, letters, spanBytes, wantedBytes, wantedCount, wantedNames } from "./rows";
import { alike, beforeId, beforeMeta, beforeType, beforeUpdated, beforeVersion, keep, same } from "./same";
import { closing, escaped, foreign, member, name, nameLength, behind as over, put, scalar, space, value } from "./walk";

// What a resource says of itself. Of its own level, and of `meta`, only the names that matter are looked for, 16 bytes at a time: a walk from member to
// member must find where one string ends before it can look at the next, which takes 14 ns a member.

let page: usize = 0;
/** the table's row, see scan.ts */
let row: usize = 0;
let start: usize = 0;
/** the value of `meta` if it is an object, and the address behind it */
let meta: usize = 0;
let metaEnd: usize = 0;

/** names that are looked for besides, see rows.ts */
let wanted: usize = 0;
let base: usize = 0;
let many: u32 = 0;
/** with which letters they and id, meta and resourceType begin: lane n is all ones for the letter 0x60 + n, and 0x70 + n */
let lowLetters: v128 = i64x2.splat(0);
let highLetters: v128 = i64x2.splat(0);
/** where the spans of their values go; of this resource */
let spans: usize = 0;
/** the span of such a value whose end is not yet known */
let pending: usize = 0;
/** one was found in this resource */
let took: bool = false;

export function beginResources(expected: usize): void {
  many = load<u32>(expected, wantedCount);
  wanted = expected + wantedNames;
  base = expected + baseURL;
  lowLetters = v128.load(expected, letters);
  highLetters = v128.load(expected, letters + 16);
}

/** Fills the row of the resource at `at`, and `many` spans, and answers the address behind it; 0: the page is the twin's. */
export function resource(at: usize, offset: usize, masks: usize, to: usize, spansTo: usize): usize {
  page = offset;
  row = to;
  start = at;
  spans = spansTo;
  meta = metaEnd = pending = 0;
  took = false;
  for (let i: u32 = 0; i < many; i++) {
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

/** Pieces of the resource's own level, as pairs of addresses from `pairs` to `last`: from behind the resource's `{` or a member's closing bracket to
 *  before the next bracket. */
export function level(pairs: usize, last: usize): bool {
  return many == 0 ? pieces(pairs, last, false) : pieces(pairs, last, true);
}

/** @param more `wanted` names, too */
// @ts-ignore: decorator
@inline function pieces(pairs: usize, last: usize, more: bool): bool {
  const q = i8x16.splat(quote as i8);
  const b = i8x16.splat(backslash as i8);
  const i = i8x16.splat(0x69);
  const m = i8x16.splat(0x6d);
  const r = i8x16.splat(0x72);
  const low = i8x16.splat(0x60);
  const high = i8x16.splat(0x70);
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
    // most pieces are shorter than 32 bytes, and name nothing that matters: both branches are foreseen
    for (let at = from; at < to; at += 32) {
      const v0 = v128.load(at);
      const v1 = v128.load(at, 16);
      const n0 = v128.load(at, 1);
      const n1 = v128.load(at, 17);
      // a shuffle answers 0 for all but 0 to 15
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
    // what `sameHead` passes over must not hold a wanted name
    if (head && !(more && took)) keepHead(to);
  }
  return true;
}

/** Whether the resource's first piece, which ends before the bracket at `to`, is like the one before: type, id, and then `meta`. They are taken. */
function sameHead(to: usize): bool {
  const typeFrom = same(beforeType, start);
  if (typeFrom == 0) return false;
  const typeTo = closing(typeFrom);
  const typeCoded = escaped || foreign;
  const idFrom = typeTo == 0 ? (0 as usize) : same(beforeId, typeTo);
  if (idFrom == 0) return false;
  const idTo = closing(idFrom);
  if (idTo == 0 || same(beforeMeta, idTo) != to + 1) return false;
  put(page, row + 24, typeFrom, typeTo, typeCoded);
  put(page, row + 32, idFrom, idTo, escaped || foreign);
  meta = to;
  metaEnd = 0;
  return true;
}

/** Keeps what `sameHead` compares. In another order there is nothing between: then nothing is kept. */
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

/** Takes what stands at `hits` of `at`. Answers `at`; or `to`, when the whole piece was walked over; or 0. */
function names(at: usize, hits: u64, from: usize, to: usize): usize {
  for (; hits != 0; hits &= hits - 1) {
    const hit = at + (ctz(hits) as usize);
    // names may be spelled with escapes then, and quotes stand inside strings
    if (load<u8>(hit) == backslash) return walkLevel(from, to) ? to : 0;
    const length = known(hit);
    if (length == 0) continue;
    const colon = space(hit + length);
    // else it is a string
    if (load<u8>(colon) == 0x3a && colon < to && !take(length, space(colon + 1), to)) return 0;
  }
  return at;
}

/** The same with the wanted names. */
function moreNames(at: usize, hits: u64, from: usize, to: usize): usize {
  for (; hits != 0; hits &= hits - 1) {
    const hit = at + (ctz(hits) as usize);
    if (load<u8>(hit) == backslash) return walkLevel(from, to) ? to : 0;
    const length = known(hit);
    const index = wantedAt(hit);
    if (length == 0 && index == many) continue;
    const colon = space(hit + (index == many ? length : (load<u32>(wanted + (index as usize) * wantedBytes) as usize)));
    // else it is a string
    if (load<u8>(colon) != 0x3a) continue;
    const place = space(colon + 1);
    if (length != 0 && !take(length, place, to)) return 0;
    if (index != many && !takeSpan(index, place, to)) return 0;
  }
  return at;
}

/** Length of the name that begins with the quote at `at`, with its quotes, if it is id, meta or resourceType; else 0. */
// @ts-ignore: decorator
@inline function known(at: usize): usize {
  if (load<u32>(at) == 0x22646922) return 4;
  if (load<u32>(at, 1) == 0x6174656d && load<u8>(at, 5) == quote) return 6;
  if (load<u64>(at, 1) == 0x656372756f736572 && load<u32>(at, 9) == 0x65707954 && load<u8>(at, 13) == quote) return 14;
  return 0;
}

/** Which of the wanted names begins with the quote at `at`; else `many`. */
function wantedAt(at: usize): u32 {
  const word = load<u64>(at);
  let name = wanted;
  let index: u32 = 0;
  for (; index < many; index++, name += wantedBytes) {
    const length = load<u32>(name) as usize;
    if ((word & load<u64>(name, 8)) == load<u64>(name, 16) && (length <= 8 || alike(name + 24, at + 8, length - 8))) break;
  }
  return index;
}

/** Notes where the value at `at` lies. */
function takeSpan(index: u32, at: usize, to: usize): bool {
  took = true;
  const span = spans + (index as usize) * spanBytes;
  store<u32>(span, (at - page) as u32);
  const byte = load<u8>(at);
  if (byte == 0x7b || byte == 0x5b) {
    // it ends where the next piece begins
    pending = span;
    return true;
  }
  const behind = value(at, 1);
  store<u64>(span, ((behind - page) as u32) as u64, 4);
  return behind != 0;
}

/** The same, member by member. */
function walkLevel(from: usize, to: usize): bool {
  let at = from;
  let first = from == start + 1;
  while ((at = member(at, first)) != 0) {
    first = false;
    const length = known(name - 1);
    if (length != 0 && !take(length, at, to)) return false;
    if (many != 0) {
      const index = wantedAt(name - 1);
      if (index != many && !takeSpan(index, at, to)) return false;
    }
    if (at >= to) return at == to;
    at = load<u8>(at) == quote ? value(at, 1) : scalar(at);
    if (at == 0) return false;
  }
  return over == to + 1;
}

/** The value at `at` of the member whose name has `length` bytes with its quotes: id, meta or resourceType. A later one of the same name replaces it. */
function take(length: usize, at: usize, to: usize): bool {
  if (length == 6) {
    meta = at == to && load<u8>(at) == 0x7b ? at : 0;
    metaEnd = 0;
    return true;
  }
  return putText(row + (length == 4 ? 32 : 24), at);
}

/** Writes the span of the text at `at`, or of none if the value is no string. */
function putText(to: usize, at: usize): bool {
  let from: usize = 0;
  let last: usize = 0;
  if (load<u8>(at) == quote) {
    from = at + 1;
    last = closing(from);
    if (last == 0) return false;
  }
  put(page, to, from, last, escaped || foreign);
  return true;
}

/** Whether `meta` begins like the one before, versionId and lastUpdated, and does not go back to these. They are taken. */
function sameMeta(): bool {
  const versionFrom = same(beforeVersion, meta);
  if (versionFrom == 0) return false;
  const versionTo = closing(versionFrom);
  const versionCoded = escaped || foreign;
  const updatedFrom = versionTo == 0 ? (0 as usize) : same(beforeUpdated, versionTo);
  if (updatedFrom == 0) return false;
  const updatedTo = closing(updatedFrom);
  if (updatedTo == 0) return false;
  const updatedCoded = escaped || foreign;
  const q = i8x16.splat(quote as i8);
  const b = i8x16.splat(backslash as i8);
  const l = i8x16.splat(0x6c);
  const n = i8x16.splat(0x76);
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

/** lastUpdated and versionId of `meta`, if nothing stands in the way: a name like theirs behind a bracket, which may be deeper, or a backslash. */
function searchMeta(): bool {
  const q = i8x16.splat(quote as i8);
  const b = i8x16.splat(backslash as i8);
  const l = i8x16.splat(0x6c);
  const n = i8x16.splat(0x76);
  const bit = i8x16.splat(0x20);
  const open = i8x16.splat(0x7b);
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

/** Keeps what `sameMeta` compares, likewise. */
function keepMeta(): void {
  const updated = load<u32>(row, 40) as usize;
  const version = load<u32>(row, 48) as usize;
  const versionTo = (load<u32>(row, 52) & 0x7fffffff) as usize;
  keep(beforeVersion, meta, page + version);
  keep(beforeUpdated, page + versionTo, page + updated);
}

/** The same, member by member. */
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
