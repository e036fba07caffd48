/** Bytes of one fingerprint. */
export const printBytes = 16;

/** Makes fingerprints of ids: SipHash-2-4 with 128 bits of output (Aumasson and Bernstein; `outlen` 16 of their
 *  reference code) over the id's UTF-8. `PageTable.prints` writes the same bytes. Each call returns a new Buffer.
 *  @param key the key's 16 bytes as 32 hex digits
 *  @throws RangeError when the key is not that */
export function printer(key: string): (id: string) => Buffer {
  const words = keyWords(key);
  return (id) => {
    const print = Buffer.allocUnsafe(printBytes);
    for (let i = 0; i < id.length; i++) {
      const unit = id.charCodeAt(i);
      if (unit > 0x7f || i >= scratch.length) {
        const bytes = Buffer.from(id);
        return sip(words, bytes, bytes.length, print);
      }
      scratch[i] = unit;
    }
    return sip(words, scratch, id.length, print);
  };
}

/** The bytes of the id that is hashed. An id has at most 64 characters of ASCII; one that is not like that goes through
 *  a Buffer of its own. */
const scratch = new Uint8Array(64);

/** The key as four 32-bit words, little endian. @throws RangeError when it is not 32 hex digits */
export function keyWords(key: string): Int32Array {
  if (!/^[0-9a-f]{32}$/i.test(key)) throw new RangeError("the key of fingerprints is not 32 hex digits");
  const bytes = Buffer.from(key, "hex");
  return Int32Array.from([0, 4, 8, 12], (at) => bytes.readInt32LE(at));
}

/** SipHash of `length` bytes, written to `out`. The state is four 64-bit words v0 to v3, each held as its low half (l0
 *  to l3) and its high half (h0 to h3): with BigInt it would take some thirty times as long. */
function sip(key: Int32Array, bytes: Uint8Array, length: number, out: Buffer): Buffer {
  const [k0, k1, k2, k3] = [key[0]!, key[1]!, key[2]!, key[3]!];
  // the constants spell "somepseudorandomlygeneratedbytes"; 0xee marks the output of 128 bits
  let l0 = k0 ^ 0x70736575;
  let h0 = k1 ^ 0x736f6d65;
  let l1 = k2 ^ 0x6e646f6d ^ 0xee;
  let h1 = k3 ^ 0x646f7261;
  let l2 = k0 ^ 0x6e657261;
  let h2 = k1 ^ 0x6c796765;
  let l3 = k2 ^ 0x79746573;
  let h3 = k3 ^ 0x74656462;
  // Two rounds for each 8 bytes, of which the last 8 hold the length in their highest byte; then four rounds for each
  // half of the output.
  for (let block = 0, last = length >> 3; block <= last + 4; block++) {
    let low = 0;
    let high = 0;
    const at = block << 3;
    if (block < last) {
      low = word(bytes, at);
      high = word(bytes, at + 4);
    } else if (block === last) {
      low = lastWord(bytes, at, length);
      high = lastWord(bytes, at + 4, length) | (length << 24);
    } else if (block === last + 1) l2 ^= 0xee;
    else if (block === last + 3) {
      put(out, 0, l0 ^ l1 ^ l2 ^ l3);
      put(out, 4, h0 ^ h1 ^ h2 ^ h3);
      l1 ^= 0xdd;
    }
    l3 ^= low;
    h3 ^= high;
    for (let round = 0; round < 2; round++) {
      // v0 += v1; v1 = rotl(v1, 13) ^ v0; v0 = rotl(v0, 32)
      let sum = (l0 + l1) | 0;
      h0 = (h0 + h1 + carry(sum, l0)) | 0;
      l0 = sum;
      let turned = (l1 << 13) | (h1 >>> 19);
      h1 = ((h1 << 13) | (l1 >>> 19)) ^ h0;
      l1 = turned ^ l0;
      turned = l0;
      l0 = h0;
      h0 = turned;
      // v2 += v3; v3 = rotl(v3, 16) ^ v2
      sum = (l2 + l3) | 0;
      h2 = (h2 + h3 + carry(sum, l2)) | 0;
      l2 = sum;
      turned = (l3 << 16) | (h3 >>> 16);
      h3 = ((h3 << 16) | (l3 >>> 16)) ^ h2;
      l3 = turned ^ l2;
      // v0 += v3; v3 = rotl(v3, 21) ^ v0
      sum = (l0 + l3) | 0;
      h0 = (h0 + h3 + carry(sum, l0)) | 0;
      l0 = sum;
      turned = (l3 << 21) | (h3 >>> 11);
      h3 = ((h3 << 21) | (l3 >>> 11)) ^ h0;
      l3 = turned ^ l0;
      // v2 += v1; v1 = rotl(v1, 17) ^ v2; v2 = rotl(v2, 32)
      sum = (l2 + l1) | 0;
      h2 = (h2 + h1 + carry(sum, l2)) | 0;
      l2 = sum;
      turned = (l1 << 17) | (h1 >>> 15);
      h1 = ((h1 << 17) | (l1 >>> 15)) ^ h2;
      l1 = turned ^ l2;
      turned = l2;
      l2 = h2;
      h2 = turned;
    }
    l0 ^= low;
    h0 ^= high;
  }
  put(out, 8, l0 ^ l1 ^ l2 ^ l3);
  put(out, 12, h0 ^ h1 ^ h2 ^ h3);
  return out;
}

/** The carry of a 32-bit addition: the sum is less than a summand when it has overflowed. */
const carry = (sum: number, summand: number) => (sum >>> 0 < summand >>> 0 ? 1 : 0);
/** The 32-bit word at `at`, little endian. */
const word = (bytes: Uint8Array, at: number) =>
  bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);

/** The word at `at`, of which only the bytes before `end` exist; the others are 0. */
function lastWord(bytes: Uint8Array, at: number, end: number): number {
  let value = 0;
  for (let i = at; i < end && i < at + 4; i++) value |= bytes[i]! << ((i - at) << 3);
  return value;
}

/** Writes a 32-bit word, little endian. */
function put(out: Buffer, at: number, value: number): void {
  out[at] = value;
  out[at + 1] = value >> 8;
  out[at + 2] = value >> 16;
  out[at + 3] = value >> 24;
}
