import { hyphens16, instantLanes, letterA16, nine16, ones16, spaces16, twentyFive16, zeroDigits16 } from "./blocks";
import { equalBytes } from "./same";

// Answers what the host would ask of row after row, for many rows in one call: whether they are as expected, and their
// fingerprints. For one row, all of this takes less time than a single call from JavaScript that makes a text.

// What resources should be. The host writes it (../expected.ts), behind the head of the table. Lengths and counts are
// 32-bit words.
//
//   at    bytes
//   0     4        length of the type
//   4     4        how many members are wanted
//   8     16       key of the fingerprints
//   24    24       `till`
//   48    64       the type
//   112   2 x 16   first letters of names, see resource.ts
//   144   16 x 80  the wanted members, each: length of the name with its quotes (4), 0 (4), a mask of all ones for as
//                  many of the first 8 bytes as the name has (8), the name in quotes (64)
//   1424  4        length of the source's base URL; 0 when there is none, or a longer one than 200 bytes
//   1428  200      the URL
//   1628  4        unused
//   1632  24       `from`
export const expectedBytes: usize = 1656;
export const wantedCount: usize = 4;
/** Bytes of a span of a wanted member: where its value begins, where it ends, and what `referenceIn` says of it. */
export const spanBytes: usize = 12;
const key: usize = 8;
const till: usize = 24;
const from: usize = 1632;
const type: usize = 48;
export const letters: usize = 112;
export const wantedNames: usize = 144;
export const wantedBytes: usize = 80;
export const baseURL: usize = 1424;

/** The first of the rows from `row` to before `last` that is not plainly what is expected; `last` when all are. See
 *  PageTable.plainRows. */
export function firstUnexpected(page: usize, expected: usize, row: usize, last: usize): usize {
  const typeLength = load<u32>(expected) as usize;
  for (; row < last; row += 64) {
    // the search mode is absent or match
    if (load<u32>(row, 12) > 1) break;
    // Where a text is coded the highest bit of its end is set, so its length comes out wrong, and the row is not plain.
    const typeFrom = load<u32>(row, 24) as usize;
    if (((load<u32>(row, 28) as usize) - typeFrom) != typeLength || !equalBytes(expected + type, page + typeFrom, typeLength)) break;
    const id = load<u32>(row, 32) as usize;
    if (!isPlainId(page + id, (load<u32>(row, 36) as usize) - id)) break;
    const updated = load<u32>(row, 40) as usize;
    if (((load<u32>(row, 44) as usize) - updated) != 24 || !isBefore(page + updated, expected + till)) break;
    if (isBefore(page + updated, expected + from)) break;
  }
  return row;
}

/** Whether the id has 1 to 64 characters of [A-Za-z0-9.-]. */
// @ts-ignore: decorator
@inline function isPlainId(at: usize, length: usize): bool {
  if (length - 1 > 63) return false;
  for (let i: usize = 0; i < length; i += 16) {
    let others = nonIdBytes(at + i);
    if (length - i < 16) others &= (1 << ((length - i) as i32)) - 1;
    if (others != 0) return false;
  }
  return true;
}

/** Which of the 16 bytes at `at` are not one of [A-Za-z0-9.-], as a mask of 16 bits. */
// @ts-ignore: decorator
@inline export function nonIdBytes(at: usize): i32 {
  const v = v128.load(at);
  const letter = i8x16.le_u(i8x16.sub(v128.or(v, v128.load(spaces16)), v128.load(letterA16)), v128.load(twentyFive16));
  const digit = i8x16.le_u(i8x16.sub(v, v128.load(zeroDigits16)), v128.load(nine16));
  const mark = i8x16.le_u(i8x16.sub(v, v128.load(hyphens16)), v128.load(ones16));
  return ~i8x16.bitmask(v128.or(v128.or(letter, digit), mark)) & 0xffff;
}

/** Whether the 24 bytes at `at` are an instant of the form dddd-dd-ddTdd:dd:dd.dddZ that is before `bound`. Instants of
 *  this form are in the order of their bytes. */
// @ts-ignore: decorator
@inline function isBefore(at: usize, bound: usize): bool {
  const head = v128.load(at);
  const rest = v128.load(at, 8);
  // Each byte less the least that its place allows: '0' for a digit, the mark itself for a mark. So a digit is up to 9,
  // a mark 0 (the constants are in blocks.ts).
  const aboveHead = i8x16.sub(head, v128.load(instantLanes));
  const aboveRest = i8x16.sub(rest, v128.load(instantLanes, 16));
  const mostHead = v128.load(instantLanes, 32);
  const mostRest = v128.load(instantLanes, 48);
  if (!i8x16.all_true(v128.and(i8x16.le_u(aboveHead, mostHead), i8x16.le_u(aboveRest, mostRest)))) return false;
  const different =
    i8x16.bitmask(i8x16.ne(head, v128.load(bound))) | (i8x16.bitmask(i8x16.ne(rest, v128.load(bound, 8))) << 8);
  if (different == 0) return false;
  const first = ctz(different) as usize;
  return load<u8>(at + first) < load<u8>(bound + first);
}

/** Writes the fingerprints of the rows from `row` to before `last`, 16 bytes each: SipHash-2-4-128 of their ids
 *  (../print.ts). Stops at a row whose id is coded, which the host must decode. Returns that row; `last` when there is
 *  none. */
export function printRows(page: usize, expected: usize, row: usize, last: usize, out: usize): usize {
  const k0 = load<u64>(expected, key);
  const k1 = load<u64>(expected, key + 8);
  for (; row < last; row += 64) {
    const from = load<u32>(row, 32);
    const to = load<u32>(row, 36);
    if ((to as i32) < 0) break;
    const length = to - from;
    let at = page + (from as usize);
    let left = length >> 3;
    let v0 = k0 ^ 0x736f6d6570736575;
    let v1 = k1 ^ 0x646f72616e646f6d ^ 0xee;
    let v2 = k0 ^ 0x6c7967656e657261;
    let v3 = k1 ^ 0x7465646279746573;
    // Two rounds for each 8 bytes, and for the last ones together with the length; then four rounds for each half of
    // the fingerprint.
    for (let final = 0; final < 5; ) {
      let word: u64 = 0;
      if (left > 0) {
        word = load<u64>(at);
        at += 8;
        left--;
      } else {
        if (final == 0) word = (load<u64>(at) & (((1 as u64) << (((length & 7) << 3) as u64)) - 1)) | ((length as u64) << 56);
        else if (final == 1) v2 ^= 0xee;
        else if (final == 3) {
          store<u64>(out, v0 ^ v1 ^ v2 ^ v3);
          v1 ^= 0xdd;
        }
        final++;
      }
      v3 ^= word;
      v0 += v1;
      v2 += v3;
      v1 = rotl(v1, 13) ^ v0;
      v3 = rotl(v3, 16) ^ v2;
      v0 = rotl(v0, 32);
      v2 += v1;
      v0 += v3;
      v1 = rotl(v1, 17) ^ v2;
      v3 = rotl(v3, 21) ^ v0;
      v2 = rotl(v2, 32);
      v0 += v1;
      v2 += v3;
      v1 = rotl(v1, 13) ^ v0;
      v3 = rotl(v3, 16) ^ v2;
      v0 = rotl(v0, 32);
      v2 += v1;
      v0 += v3;
      v1 = rotl(v1, 17) ^ v2;
      v3 = rotl(v3, 21) ^ v0;
      v2 = rotl(v2, 32);
      v0 ^= word;
    }
    store<u64>(out, v0 ^ v1 ^ v2 ^ v3, 8);
    out += 16;
  }
  return row;
}
