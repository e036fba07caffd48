// 64 bytes at a time as bit masks: bit n stands for byte n of the block.

export const quote: u8 = 0x22;
export const backslash: u8 = 0x5c;

/** One bit per byte whose lane is all ones. */
// @ts-ignore: decorator
@inline export function mask(a: v128, b: v128, c: v128, d: v128): u64 {
  const low = (i8x16.bitmask(a) | (i8x16.bitmask(b) << 16)) as u32;
  const high = (i8x16.bitmask(c) | (i8x16.bitmask(d) << 16)) as u32;
  return (low as u64) | ((high as u64) << 32);
}

/** Where `byte` stands in the block. */
// @ts-ignore: decorator
@inline export function equal(v0: v128, v1: v128, v2: v128, v3: v128, byte: u8): u64 {
  const wanted = i8x16.splat(byte as i8);
  return mask(i8x16.eq(v0, wanted), i8x16.eq(v1, wanted), i8x16.eq(v2, wanted), i8x16.eq(v3, wanted));
}

/** Bit n is the exclusive or of bits 0 to n: from quotes it makes the insides of strings, the opening quote included, the closing one not. */
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

/** 1: the first byte of the next block is escaped. Set by `escapedOf`. */
export let carry: u64 = 0;

/** Which bytes are escaped, from where backslashes stand and whether the first byte is (`carried`). A backslash escapes unless it is escaped itself:
 *  of a run, every second one. The subtraction lets each run find its own parity (the method is simdjson's). */
export function escapedOf(backslashes: u64, carried: u64): u64 {
  const odd: u64 = 0xaaaaaaaaaaaaaaaa;
  const escapes = backslashes & ~carried;
  const codes = (((escapes << 1) | odd) - escapes) ^ odd;
  carry = (codes & backslashes) >> 63;
  return codes ^ (backslashes | carried);
}

/** Whether JSON has the escape whose backslash is at `at`. */
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
