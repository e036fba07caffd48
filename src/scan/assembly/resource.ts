import { backslash, quote } from "./blocks";
import { isCompact, jump } from "./index";
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
  if (behind == 0 || (meta != 0 && !searchMeta() && !walkMeta())) return 0;
  const from = (at - page) as u32;
  const end = (behind - page) as u32;
  store<u32>(row, from);
  store<u32>(row, end, 4);
  store<u32>(row, isCompact(masks, from, end) ? 1 : 0, 8);
  return behind;
}

/** A piece of the resource's own level: from behind its `{` or behind a member's closing bracket to before the next bracket. */
export function level(from: usize, to: usize): bool {
  if (meta != 0 && metaEnd == 0) metaEnd = from;
  const q = i8x16.splat(quote as i8);
  const b = i8x16.splat(backslash as i8);
  const i = i8x16.splat(0x69);
  const m = i8x16.splat(0x6d);
  const r = i8x16.splat(0x72);
  for (let at = from; at < to; at += 16) {
    const v = v128.load(at);
    const next = v128.load(at, 1);
    const names = v128.and(i8x16.eq(v, q), v128.or(v128.or(i8x16.eq(next, i), i8x16.eq(next, m)), i8x16.eq(next, r)));
    let hits = i8x16.bitmask(v128.or(names, i8x16.eq(v, b)));
    if (to - at < 16) hits &= (1 << ((to - at) as i32)) - 1;
    for (; hits != 0; hits &= hits - 1) {
      const hit = at + (ctz(hits) as usize);
      // names may be spelled with escapes then, and quotes stand inside strings
      if (load<u8>(hit) == backslash) return walkLevel(from, to);
      let behind = hit;
      if (load<u32>(hit) == 0x22646922) behind += 4;
      else if (load<u32>(hit, 1) == 0x6174656d && load<u8>(hit, 5) == quote) behind += 6;
      else if (load<u64>(hit, 1) == 0x656372756f736572 && load<u32>(hit, 9) == 0x65707954 && load<u8>(hit, 13) == quote) behind += 14;
      else continue;
      const colon = space(behind);
      // else it is a string
      if (load<u8>(colon) == 0x3a && colon < to && !take(behind - hit, space(colon + 1), to)) return false;
    }
  }
  return true;
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
  return true;
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
