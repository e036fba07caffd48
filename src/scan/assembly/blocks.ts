// Bit masks of a block, that is of 64 bytes of the page: bit n says something of byte n.
//
// A SIMD register (v128) holds 16 bytes, its lanes, and one instruction works on all of them. To compare a register
// with a value makes each lane all ones where it is equal, and zero elsewhere; `bitmask` makes a number of that, with a
// bit per lane. Four registers make a mask of 64 bits. Questions of a whole block then are a few operations on 64-bit
// numbers, without a branch per byte:
//
//   bytes     {"a":"[\"]"}     (the first byte is bit 0, drawn at the left)
//   quotes    .1.1.1..1.1.
//   escaped   ........1...     the byte behind a backslash
//   quotes    .1.1.1....1.     without the escaped one
//   inside    .11..11111..     prefixXor: the opening quote and the text, not the closing quote
//   brackets  1..........1     without those inside strings

export const quote: u8 = 0x22;
export const backslash: u8 = 0x5c;

// A constant of 16 lanes is read from memory, where `fillConstants` writes it once. V8 makes one that stands in the
// code anew at each use, which takes three instructions, where the comparison itself takes one. One that was read stays
// in a register.
/** addresses of constants: all 16 lanes are the byte */
export const quotes16: usize = 3072;
export const backslashes16: usize = 3088;
export const spaces16: usize = 3104;
export const commas16: usize = 3120;
export const colons16: usize = 3136;
export const openingBraces16: usize = 3152;
export const closingBraces16: usize = 3168;
/** letters */
export const letterI16: usize = 3184;
export const letterL16: usize = 3200;
export const letterM16: usize = 3216;
export const letterR16: usize = 3232;
export const letterV16: usize = 3248;
/** 0x60 and 0x70 */
export const low16: usize = 3264;
export const high16: usize = 3280;
/** the greatest digit, and the greatest letter of a lower-case alphabet that begins with 0 */
export const nine16: usize = 3296;
export const twentyFive16: usize = 3312;
export const letterA16: usize = 3328;
export const zeroDigits16: usize = 3344;
export const hyphens16: usize = 3360;
export const ones16: usize = 3376;
export const lineFeeds16: usize = 3472;
/** address of a constant for `swizzle`: lane n is all ones where the byte n is white space */
export const whiteLanes: usize = 3392;
/** address of the constants of instants, see rows.ts */
export const instantLanes: usize = 3408;

function fillWith(at: usize, byte: u8): void {
  v128.store(at, i8x16.splat(byte as i8));
}

export function fillConstants(): void {
  fillWith(quotes16, quote);
  fillWith(backslashes16, backslash);
  fillWith(spaces16, 0x20);
  fillWith(commas16, 0x2c);
  fillWith(colons16, 0x3a);
  fillWith(openingBraces16, 0x7b);
  fillWith(closingBraces16, 0x7d);
  fillWith(letterI16, 0x69);
  fillWith(letterL16, 0x6c);
  fillWith(letterM16, 0x6d);
  fillWith(letterR16, 0x72);
  fillWith(letterV16, 0x76);
  fillWith(low16, 0x60);
  fillWith(high16, 0x70);
  fillWith(nine16, 9);
  fillWith(twentyFive16, 25);
  fillWith(letterA16, 0x61);
  fillWith(zeroDigits16, 0x30);
  fillWith(hyphens16, 0x2d);
  fillWith(ones16, 1);
  fillWith(lineFeeds16, 0x0a);
  // tab, line feed, carriage return
  v128.store(whiteLanes, i8x16(0, 0, 0, 0, 0, 0, 0, 0, 0, -1, -1, 0, 0, -1, 0, 0));
  v128.store(instantLanes, i8x16(48, 48, 48, 48, 45, 48, 48, 45, 48, 48, 84, 48, 48, 58, 48, 48));
  v128.store(instantLanes, i8x16(48, 48, 84, 48, 48, 58, 48, 48, 58, 48, 48, 46, 48, 48, 48, 90), 16);
  v128.store(instantLanes, i8x16(9, 9, 9, 9, 0, 9, 9, 0, 9, 9, 0, 9, 9, 0, 9, 9), 32);
  v128.store(instantLanes, i8x16(9, 9, 0, 9, 9, 0, 9, 9, 0, 9, 9, 0, 9, 9, 9, 0), 48);
}

/** The mask of a block from four registers of 16 lanes: a bit for each lane that is all ones. */
// @ts-ignore: decorator
@inline export function mask(a: v128, b: v128, c: v128, d: v128): u64 {
  const low = (i8x16.bitmask(a) | (i8x16.bitmask(b) << 16)) as u32;
  const high = (i8x16.bitmask(c) | (i8x16.bitmask(d) << 16)) as u32;
  return (low as u64) | ((high as u64) << 32);
}

/** Bit n of the result is the exclusive or of the bits 0 to n: it changes at each bit that is set. So it makes of the
 *  quotes of a block the insides of its strings: from the opening quote to before the closing one. */
// @ts-ignore: decorator
@inline export function prefixXor(bits: u64): u64 {
  bits ^= bits << 1;
  bits ^= bits << 2;
  bits ^= bits << 4;
  bits ^= bits << 8;
  bits ^= bits << 16;
  bits ^= bits << 32;
  return bits;
}

/** 1 when the first byte of the next block is escaped, because this block ends with an escaping backslash. A second
 *  result of `escapedOf`. */
export let carry: u64 = 0;

/** Which bytes of the block are escaped. A backslash escapes the byte behind it unless it is escaped itself, so in a
 *  run of backslashes every second one escapes. Runs may begin at an even or at an odd place. The subtraction borrows
 *  through each run up to its end, so that each run gets the pattern of its own parity, all runs at once. This is the
 *  method of simdjson (json_escape_scanner).
 *  @param backslashes where backslashes are
 *  @param carried 1 when the first byte is escaped: `carry` of the block before */
export function escapedOf(backslashes: u64, carried: u64): u64 {
  const odd: u64 = 0xaaaaaaaaaaaaaaaa;
  const escapes = backslashes & ~carried;
  const codes = (((escapes << 1) | odd) - escapes) ^ odd;
  carry = (codes & backslashes) >> 63;
  return codes ^ (backslashes | carried);
}

/** Whether the escape whose backslash is at the address `at` is one that JSON has. */
export function isEscape(at: usize): bool {
  const kind = load<u8>(at, 1);
  if (kind == 0x75) {
    for (let i: usize = 2; i < 6; i++) {
      const hex = load<u8>(at + i);
      const letter = hex | 0x20;
      if (!((hex >= 0x30 && hex <= 0x39) || (letter >= 0x61 && letter <= 0x66))) return false;
    }
    return true;
  }
  // " / \ b f n r t
  return kind == 0x22 || kind == 0x2f || kind == 0x5c || kind == 0x62 || kind == 0x66 || kind == 0x6e || kind == 0x72 || kind == 0x74;
}
