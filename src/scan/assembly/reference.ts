import { backslash, quote } from "./blocks";
import { nonIdBytes } from "./rows";
import { equalBytes } from "./same";
import { space } from "./walk";

// Which patient the value of a member refers to. Servers write nearly all references like {"reference":"Patient/x"},
// with or without other members, so this form is read here, without parsing. What looks different is for the host to
// parse, unless the word Patient is nowhere in it.

/** Which patient the value at the addresses `from` to `to` refers to. 0: none. 1: the host must parse the value. Else
 *  the patient's id, as 128 times its distance from `from`, plus its length. See PageTable.reference.
 *  @param base address of the source's base URL: its length in 4 bytes, then the URL */
export function referenceIn(from: usize, to: usize, base: usize): u32 {
  let at = load<u8>(from) == 0x5b ? space(from + 1) : from;
  if (load<u8>(at) == 0x7b && isReference((at = space(at + 1))) && load<u8>((at = space(at + 11))) == 0x3a) {
    at = space(at + 1) + 1;
    const length = load<u32>(base) as usize;
    const isString = load<u8>(at - 1) == quote;
    if (length != 0 && at + length < to && equalBytes(base + 4, at, length)) at += length;
    // Patient/
    if (isString && load<u64>(at) == 0x2f746e6569746150) {
      at += 8;
      let end = at;
      let others = nonIdBytes(end);
      while (others == 0 && end - at < 64) others = nonIdBytes((end += 16));
      end += ctz(others) as usize;
      // Where an object has two references the last counts, and a list may have a second object.
      if (load<u8>(end) == quote && end - at - 1 < 64 && end < to && end - from < 0x1000000 && !hasMore(end + 1, to))
        return (((at - from) as u32) << 7) | ((end - at) as u32);
    }
  }
  return mayName(from, to) ? 1 : 0;
}

/** Whether the name `"reference"` is at `at`. */
// @ts-ignore: decorator
@inline function isReference(at: usize): bool {
  return load<u64>(at) == 0x6e65726566657222 && load<u32>(at, 7) == 0x2265636e;
}

/** Whether there may be another `"reference"` from `from` to `to`: a name that begins with `r`, or any backslash. */
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

/** Whether the word `Patient` is somewhere from `from` to `to`, or may be, because there is a backslash. */
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
