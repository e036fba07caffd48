import { backslash, quote } from "./blocks";
import { noIdBytes } from "./rows";
import { alike } from "./same";
import { space } from "./walk";

/** What the value from `from` to `to` says of patients: 0 nothing, 1 it must be parsed, else where the id begins after `from`, by 128, and its length; see
 *  PageTable.reference. `base`: the length of a URL (4 bytes) and the URL. */
export function referenceIn(from: usize, to: usize, base: usize): u32 {
  let at = load<u8>(from) == 0x5b ? space(from + 1) : from;
  if (load<u8>(at) == 0x7b && isReference((at = space(at + 1))) && load<u8>((at = space(at + 11))) == 0x3a) {
    at = space(at + 1) + 1;
    const length = load<u32>(base) as usize;
    const isString = load<u8>(at - 1) == quote;
    if (length != 0 && at + length < to && alike(base + 4, at, length)) at += length;
    // Patient/
    if (isString && load<u64>(at) == 0x2f746e6569746150) {
      at += 8;
      let end = at;
      let others = noIdBytes(end);
      while (others == 0 && end - at < 64) others = noIdBytes((end += 16));
      end += ctz(others) as usize;
      // of two references in one object the last counts, and a list may have more
      if (load<u8>(end) == quote && end - at - 1 < 64 && end < to && end - from < 0x1000000 && !hasMore(end + 1, to))
        return (((at - from) as u32) << 7) | ((end - at) as u32);
    }
  }
  return mayName(from, to) ? 1 : 0;
}

/** Whether `"reference"` stands there. */
// @ts-ignore: decorator
@inline function isReference(at: usize): bool {
  return load<u64>(at) == 0x6e65726566657222 && load<u32>(at, 7) == 0x2265636e;
}

/** Whether another name may be `reference`: one that begins so, or one with an escape. */
function hasMore(from: usize, to: usize): bool {
  const q = i8x16.splat(quote as i8);
  const b = i8x16.splat(backslash as i8);
  const r = i8x16.splat(0x72);
  for (let at = from; at < to; at += 16) {
    const v = v128.load(at);
    let hits = i8x16.bitmask(v128.or(i8x16.eq(v, b), v128.and(i8x16.eq(v, q), i8x16.eq(v128.load(at, 1), r))));
    if (to - at < 16) hits &= (1 << ((to - at) as i32)) - 1;
    if (hits != 0) return true;
  }
  return false;
}

/** Whether `Patient` stands there, or could with escapes. */
function mayName(from: usize, to: usize): bool {
  const b = i8x16.splat(backslash as i8);
  const p = i8x16.splat(0x50);
  const a = i8x16.splat(0x61);
  for (let at = from; at < to; at += 16) {
    const v = v128.load(at);
    let hits = i8x16.bitmask(v128.or(i8x16.eq(v, b), v128.and(i8x16.eq(v, p), i8x16.eq(v128.load(at, 1), a))));
    if (to - at < 16) hits &= (1 << ((to - at) as i32)) - 1;
    for (; hits != 0; hits &= hits - 1) {
      const hit = at + (ctz(hits) as usize);
      if (load<u8>(hit) == backslash || (load<u64>(hit) & 0xffffffffffffff) == 0x746e6569746150) return true;
    }
  }
  return false;
}
