/** of one fingerprint */
export const printBytes = 16;

/** SipHash-2-4 with 128 bits of output (Aumasson and Bernstein; the reference code's `outlen` 16) over the UTF-8 of an id: equal to what `PageTable.prints` writes.
 *  The Buffer that is answered is the caller's.
 *  @param key 32 hex digits, the key's 16 bytes */
export function printer(key: string): (id: string) => Buffer {
  const words = keyWords(key);
  return (id) => {
    const print = Buffer.allocUnsafe(printBytes);
    sip(words, Buffer.from(id), print);
    return print;
  };
}

/** The key as four 32-bit words, little endian. @throws RangeError */
export function keyWords(key: string): Int32Array {
  if (!/^[0-9a-f]{32}$/i.test(key)) throw new RangeError("the key of fingerprints is not 32 hex digits");
  const bytes = Buffer.from(key, "hex");
  return Int32Array.from([0, 4, 8, 12], (at) => bytes.readInt32LE(at));
}

// The four 64-bit words of the state, each as its low and high half. BigInt takes some thirty times longer.
const state = { l0: 0, h0: 0, l1: 0, h1: 0, l2: 0, h2: 0, l3: 0, h3: 0 };

function sip([k0, k1, k2, k3]: Int32Array, bytes: Buffer, out: Buffer): void {
  const s = state;
  // "somepseudorandomlygeneratedbytes", and 0xee for the long output
  s.l0 = k0! ^ 0x70736575;
  s.h0 = k1! ^ 0x736f6d65;
  s.l1 = k2! ^ 0x6e646f6d ^ 0xee;
  s.h1 = k3! ^ 0x646f7261;
  s.l2 = k0! ^ 0x6e657261;
  s.h2 = k1! ^ 0x6c796765;
  s.l3 = k2! ^ 0x79746573;
  s.h3 = k3! ^ 0x74656462;
  const { length } = bytes;
  let at = 0;
  for (; at + 8 <= length; at += 8) block(s, word(bytes, at), word(bytes, at + 4));
  let low = 0;
  let high = length << 24;
  for (let i = 0; at + i < length; i++)
    if (i < 4) low |= bytes[at + i]! << (8 * i);
    else high |= bytes[at + i]! << (8 * (i - 4));
  block(s, low, high);
  s.l2 ^= 0xee;
  rounds(s, 4);
  out.writeInt32LE(s.l0 ^ s.l1 ^ s.l2 ^ s.l3, 0);
  out.writeInt32LE(s.h0 ^ s.h1 ^ s.h2 ^ s.h3, 4);
  s.l1 ^= 0xdd;
  rounds(s, 4);
  out.writeInt32LE(s.l0 ^ s.l1 ^ s.l2 ^ s.l3, 8);
  out.writeInt32LE(s.h0 ^ s.h1 ^ s.h2 ^ s.h3, 12);
}

const word = (bytes: Buffer, at: number) => bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);

function block(s: typeof state, low: number, high: number): void {
  s.l3 ^= low;
  s.h3 ^= high;
  rounds(s, 2);
  s.l0 ^= low;
  s.h0 ^= high;
}

function rounds(s: typeof state, times: number): void {
  let { l0, h0, l1, h1, l2, h2, l3, h3 } = s;
  for (; times > 0; times--) {
    // v0 += v1; v1 = rotl(v1, 13) ^ v0; v0 = rotl(v0, 32)
    let sum = (l0 >>> 0) + (l1 >>> 0);
    h0 = (h0 + h1 + (sum > 0xffff_ffff ? 1 : 0)) | 0;
    l0 = sum | 0;
    let turned = (l1 << 13) | (h1 >>> 19);
    h1 = ((h1 << 13) | (l1 >>> 19)) ^ h0;
    l1 = turned ^ l0;
    [l0, h0] = [h0, l0];
    // v2 += v3; v3 = rotl(v3, 16) ^ v2
    sum = (l2 >>> 0) + (l3 >>> 0);
    h2 = (h2 + h3 + (sum > 0xffff_ffff ? 1 : 0)) | 0;
    l2 = sum | 0;
    turned = (l3 << 16) | (h3 >>> 16);
    h3 = ((h3 << 16) | (l3 >>> 16)) ^ h2;
    l3 = turned ^ l2;
    // v0 += v3; v3 = rotl(v3, 21) ^ v0
    sum = (l0 >>> 0) + (l3 >>> 0);
    h0 = (h0 + h3 + (sum > 0xffff_ffff ? 1 : 0)) | 0;
    l0 = sum | 0;
    turned = (l3 << 21) | (h3 >>> 11);
    h3 = ((h3 << 21) | (l3 >>> 11)) ^ h0;
    l3 = turned ^ l0;
    // v2 += v1; v1 = rotl(v1, 17) ^ v2; v2 = rotl(v2, 32)
    sum = (l2 >>> 0) + (l1 >>> 0);
    h2 = (h2 + h1 + (sum > 0xffff_ffff ? 1 : 0)) | 0;
    l2 = sum | 0;
    turned = (l1 << 17) | (h1 >>> 15);
    h1 = ((h1 << 17) | (l1 >>> 15)) ^ h2;
    l1 = turned ^ l2;
    [l2, h2] = [h2, l2];
  }
  s.l0 = l0;
  s.h0 = h0;
  s.l1 = l1;
  s.h1 = h1;
  s.l2 = l2;
  s.h2 = h2;
  s.l3 = l3;
  s.h3 = h3;
}
