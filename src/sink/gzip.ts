/** One gzip member (RFC 1952) made of segments that know nothing of each other, so that a writer can go on where another was killed. Members of their own would do
 *  that, too, but clients that unpack Content-Encoding stop after the first of them: Python's httpx loses the rest without a word. */
import { constants, crc32, deflateRawSync } from "node:zlib";

/** no name, no time: the same bytes for the same content */
export const gzipHeader = Uint8Array.of(0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 0xff);

/** Deflate blocks that refer to nothing before them and end at a byte, none of which is the last. */
export const deflateSegment = (content: Uint8Array): Buffer =>
  deflateRawSync(content, { level: 1, finishFlush: constants.Z_SYNC_FLUSH });

/** CRC-32 of content that goes on. */
export const addToCRC = (crc: number, content: Uint8Array): number => crc32(content, crc);

/** The last, empty block; and what the content was.
 *  @param bytes of the content */
export function gzipTrailer(crc: number, bytes: number): Uint8Array {
  const trailer = Buffer.alloc(10);
  trailer[0] = 0x03;
  trailer.writeUInt32LE(crc >>> 0, 2);
  // modulo 2^32, as RFC 1952 has it
  trailer.writeUInt32LE(bytes % 2 ** 32, 6);
  return trailer;
}
