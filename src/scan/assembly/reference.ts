import { backslash, quote } from "./blocks";
import { nonIdBytes } from "./rows";
import { equalBytes } from "./same";
import { space } from "./walk";

// Which patient the value of a member refers to. Servers write nearly all references like {"reference":"Patient/x"},
// with or without other members, so this form is read here, without parsing. What looks different is for the host to
// parse, unless nothing in it could refer to a patient.

/** Which patient the value at the addresses `from` to `to` refers to. 0: none. 1: the host must parse the value. Else
 *  the patient's id, as 128 times its distance from `from`, plus its length. See PageTable.reference.
 *  @param base address of the source's base URL: its length in 4 bytes, then the URL */
export function referenceIn(from: usize, to: usize, base: usize): u32 {
  const isList = load<u8>(from) == 0x5b;
  let at = isList ? space(from + 1) : from;
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
      if (load<u8>(end) == quote && end - at - 1 < 64 && end < to && end - from < 0x1000000 && !hasMore(end + 1, to, isList))
        return (((at - from) as u32) << 7) | ((end - at) as u32);
    }
  }
  return mayRefer(from, to, base) ? 1 : 0;
}

/** Whether the name `"reference"` is at `at`. */
// @ts-ignore: decorator
@inline function isReference(at: usize): bool {
  return load<u64>(at) == 0x6e65726566657222 && load<u32>(at, 7) == 0x2265636e;
}

/** Whether there may be another `"reference"` from `from` to `to`: a name that begins with `r`, or any backslash. In a
 *  list a second object may also have an identifier alone. */
function hasMore(from: usize, to: usize, isList: bool): bool {
  const q = i8x16.splat(quote as i8);
  const b = i8x16.splat(backslash as i8);
  const r = i8x16.splat(0x72);
  const i = i8x16.splat(isList ? 0x69 : 0x72);
  for (let at = from; at < to; at += 16) {
    const v = v128.load(at);
    const next = v128.load(at, 1);
    const name = v128.and(i8x16.eq(v, q), v128.or(i8x16.eq(next, r), i8x16.eq(next, i)));
    let hits = i8x16.bitmask(v128.or(i8x16.eq(v, b), name));
    if (to - at < 16) hits &= (1 << ((to - at) as i32)) - 1;
    if (hits != 0) return true;
  }
  return false;
}

/** Whether something from `from` to `to` may refer to a patient: the word `Patient` is there; an identifier; a
 *  reference that does not begin with the name of another type, and a slash; or a backslash, which may hide all of
 *  that. */
function mayRefer(from: usize, to: usize, base: usize): bool {
  const q = i8x16.splat(quote as i8);
  const b = i8x16.splat(backslash as i8);
  const p = i8x16.splat(0x50);
  const a = i8x16.splat(0x61);
  const r = i8x16.splat(0x72);
  const i = i8x16.splat(0x69);
  for (let at = from; at < to; at += 16) {
    const v = v128.load(at);
    const next = v128.load(at, 1);
    const word = v128.and(i8x16.eq(v, p), i8x16.eq(next, a));
    const name = v128.and(i8x16.eq(v, q), v128.or(i8x16.eq(next, r), i8x16.eq(next, i)));
    let hits = i8x16.bitmask(v128.or(i8x16.eq(v, b), v128.or(word, name)));
    if (to - at < 16) hits &= (1 << ((to - at) as i32)) - 1;
    for (; hits != 0; hits &= hits - 1) {
      const hit = at + (ctz(hits) as usize);
      const first = load<u8>(hit);
      if (first == quote) {
        // "identifier"
        if (load<u64>(hit, 1) == 0x696669746e656469 && load<u32>(hit, 8) == 0x22726569) return true;
        if (isReference(hit) && !isOther(hit + 11, base)) return true;
      } else if (first == backslash || (load<u64>(hit) & 0xffffffffffffff) == 0x746e6569746150) return true;
    }
  }
  return false;
}

/** Whether a colon and a reference to another type follow the name `"reference"`, which ends at `at`. */
function isOther(at: usize, base: usize): bool {
  at = space(at);
  if (load<u8>(at) != 0x3a) return true; // it is a text, no name
  at = space(at + 1);
  if (load<u8>(at) != quote) return false;
  at++;
  const length = load<u32>(base) as usize;
  if (length != 0 && equalBytes(base + 4, at, length)) at += length;
  let letter = load<u8>(at);
  // a contained resource
  if (letter == 0x23) return true;
  if (letter < 0x41 || letter > 0x5a) return false;
  do letter = load<u8>(++at);
  while ((letter | 0x20) >= 0x61 && (letter | 0x20) <= 0x7a);
  return letter == 0x2f;
}
