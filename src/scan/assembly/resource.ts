import { backslash, quote } from "./blocks";
import { isCompact, jump } from "./index";
import { beforeId, beforeMeta, beforeType, beforeUpdated, beforeVersion, keep, same } from "./same";
import { closing, escaped, foreign, isResourceType, member, name, nameLength, behind as over, put, scalar, space, value } from "./walk";

// What a resource says of itself. Of its own level, and of `meta`, only the names that matter are looked for, 16 bytes at a time: a walk from member to
// member must find where one string ends before it can look at the next, which takes 14 ns a member.

let page: usize = 0;
/** the table's row, see scan.ts */
let row: usize = 0;
let start: usize = 0;
/** the value of `meta` if it is an object, and the address behind it */
let meta: usize = 0;
let metaEnd: usize = 0;

/** Fills the row of the resource at `at` and answers the address behind it; 0: the page is the twin's. */
export function resource(at: usize, offset: usize, masks: usize, to: usize): usize {
  page = offset;
  row = to;
  start = at;
  meta = metaEnd = 0;
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
  const q = i8x16.splat(quote as i8);
  const b = i8x16.splat(backslash as i8);
  const i = i8x16.splat(0x69);
  const m = i8x16.splat(0x6d);
  const r = i8x16.splat(0x72);
  for (; pairs < last; pairs += 8) {
    const from = load<u32>(pairs) as usize;
    const to = load<u32>(pairs, 4) as usize;
    if (meta != 0 && metaEnd == 0) metaEnd = from;
    const head = from == start + 1;
    if (head && sameHead(to)) continue;
    // most pieces are shorter than 32 bytes, and name nothing that matters: both branches are foreseen
    for (let at = from; at < to; at += 32) {
      const v0 = v128.load(at);
      const v1 = v128.load(at, 16);
      const n0 = v128.load(at, 1);
      const n1 = v128.load(at, 17);
      const h0 = v128.and(i8x16.eq(v0, q), v128.or(v128.or(i8x16.eq(n0, i), i8x16.eq(n0, m)), i8x16.eq(n0, r)));
      const h1 = v128.and(i8x16.eq(v1, q), v128.or(v128.or(i8x16.eq(n1, i), i8x16.eq(n1, m)), i8x16.eq(n1, r)));
      let hits =
        ((i8x16.bitmask(v128.or(h0, i8x16.eq(v0, b))) as u32) as u64) | (((i8x16.bitmask(v128.or(h1, i8x16.eq(v1, b))) as u32) as u64) << 16);
      if (to - at < 32) hits &= ((1 as u64) << ((to - at) as u64)) - 1;
      if (hits != 0) {
        const behind = names(at, hits, from, to);
        if (behind == 0) return false;
        if (behind > at) break;
      }
    }
    if (head) keepHead(to);
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
    let behind = hit;
    if (load<u32>(hit) == 0x22646922) behind += 4;
    else if (load<u32>(hit, 1) == 0x6174656d && load<u8>(hit, 5) == quote) behind += 6;
    else if (load<u64>(hit, 1) == 0x656372756f736572 && load<u32>(hit, 9) == 0x65707954 && load<u8>(hit, 13) == quote) behind += 14;
    else continue;
    const colon = space(behind);
    // else it is a string
    if (load<u8>(colon) == 0x3a && colon < to && !take(behind - hit, space(colon + 1), to)) return 0;
  }
  return at;
}

/** The same, member by member. */
function walkLevel(from: usize, to: usize): bool {
  let at = from;
  let first = from == start + 1;
  while ((at = member(at, first)) != 0) {
    first = false;
    const known = (nameLength == 2 && load<u16>(name) == 0x6469) || (nameLength == 4 && load<u32>(name) == 0x6174656d) || isResourceType();
    if (known && !take(nameLength + 2, at, to)) return false;
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
