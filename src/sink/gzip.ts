/** One gzip member (RFC 1952) made of segments, each of which is compressed without knowing the others, so that a
 *  writer can continue where another one was killed. A member per segment would do that, too, but clients that unpack
 *  Content-Encoding stop after the first member: Python's httpx loses the rest without an error. */
import { constants, crc32, deflateRawSync } from "node:zlib";

/** It has no name and no time in it: the same content gives the same bytes. */
export const gzipHeader = Uint8Array.of(0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 0xff);

/** Compresses a segment: deflate blocks that refer to nothing before them, end at a whole byte, and do not end the
 *  member. */
export const deflateSegment = (content: Uint8Array): Buffer =>
  deflateRawSync(content, { level: 1, finishFlush: constants.Z_SYNC_FLUSH });

/** The CRC-32 of content, continued. @param crc that of the content before; 0 at the start */
export const addToCRC = (crc: number, content: Uint8Array): number => crc32(content, crc);

/** The end of the member: an empty last block, then CRC-32 and length of the content.
 *  @param bytes how many the content has */
export function gzipTrailer(crc: number, bytes: number): Uint8Array {
  const trailer = Buffer.alloc(10);
  trailer[0] = 0x03;
  trailer.writeUInt32LE(crc >>> 0, 2);
  // RFC 1952 stores the length modulo 2^32
  trailer.writeUInt32LE(bytes % 2 ** 32, 6);
  return trailer;
}
