import { type Duplex, Readable, Writable } from "node:stream";
import { pipeline } from "node:stream/promises";
import {
  brotliDecompressSync,
  createBrotliDecompress,
  createGunzip,
  createInflate,
  createInflateRaw,
  createZstdDecompress,
  gunzipSync,
  inflateRawSync,
  inflateSync,
  type ZlibOptions,
  zstdDecompressSync,
} from "node:zlib";
import { terminal, transient } from "../failure.ts";
import type { Headers } from "./http.ts";

type Unpack = (body: Buffer, options: Pick<ZlibOptions, "maxOutputLength">) => Buffer;

/** Some servers send deflate without the wrapper that RFC 9110 section 8.4.1.2 wants. */
const isWrapped = (body: Buffer) => ((body[0] ?? 0) & 0x0f) === 8 && body.readUInt16BE(0) % 31 === 0;

interface Unpacker {
  /** all at once */
  whole: Unpack;
  /** piece by piece; @param body its first bytes */
  stream: (body: Buffer) => Duplex;
}
const gunzip: Unpacker = { whole: gunzipSync, stream: () => createGunzip() };
const unpackers: Record<string, Unpacker> = {
  gzip: gunzip,
  "x-gzip": gunzip,
  deflate: {
    whole: (body, options) => (isWrapped(body) ? inflateSync(body, options) : inflateRawSync(body, options)),
    stream: (body) => (isWrapped(body) ? createInflate() : createInflateRaw()),
  },
  br: { whole: brotliDecompressSync, stream: () => createBrotliDecompress() },
  zstd: { whole: zstdDecompressSync, stream: () => createZstdDecompress() },
};

/** @throws terminal SourceInconsistent for a coding that nobody here can undo */
function unpackerOf(coding: string): Unpacker {
  if (Object.hasOwn(unpackers, coding)) return unpackers[coding]!;
  throw terminal(
    "SourceInconsistent",
    "the source sends a Content-Encoding that was not asked for and cannot be undone; let the server, or the proxy before it, send gzip or none",
  );
}

const notPacked = (coding: string, error: unknown) =>
  transient(
    "SourceInconsistent",
    `a page of the source has Content-Encoding ${coding}, but its body is not ${coding}`,
    error,
  );

/** The content codings of a body, the last that was applied first. */
const codingsOf = (headers: Headers): string[] =>
  String(headers["content-encoding"] ?? "")
    .toLowerCase()
    .split(",")
    .map((coding) => coding.trim())
    .filter((coding) => coding !== "" && coding !== "identity")
    .reverse();

/** Whether a body must be unpacked. */
export const isPacked = (headers: Headers): boolean =>
  headers["content-encoding"] !== undefined && codingsOf(headers).length > 0;

/** A body without its Content-Encoding. We ask for none, or for gzip (asked-coding.ts). Some servers and proxies pack
 *  as they like.
 *  @param most how many bytes it may have when it is unpacked; `tooLong` makes the error for more
 *  @throws terminal SourceInconsistent for a coding that nobody here can undo; transient SourceInconsistent where the
 *    body is not what the header says */
export function decoded(body: Buffer, headers: Headers, most: number, tooLong: () => Error): Buffer {
  for (const coding of isPacked(headers) ? codingsOf(headers) : []) {
    const { whole } = unpackerOf(coding);
    try {
      body = whole(body, { maxOutputLength: most });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ERR_BUFFER_TOO_LARGE") throw tooLong();
      throw notPacked(coding, error);
    }
  }
  return body;
}

const packedPiece = 65_536;

/** Undoes the Content-Encoding of a body piece by piece, so that nothing but `take` holds what comes out.
 *  @param take is given each piece in order. What it throws ends the unpacking.
 *  @throws what `decoded` throws */
export async function unpack(body: Buffer, headers: Headers, take: (piece: Buffer) => void): Promise<void> {
  const codings = codingsOf(headers);
  // Only the outermost coding's first bytes are here to be looked at.
  const streams = codings.map((coding, index) => unpackerOf(coding).stream(index === 0 ? body : wrapped));
  let ended: unknown;
  const pieces = function* () {
    for (let at = 0; at < body.length; at += packedPiece) yield body.subarray(at, at + packedPiece);
  };
  const taken = new Writable({
    write: (piece: Buffer, _, done) => {
      try {
        take(piece);
        done();
      } catch (error) {
        ended = error;
        done(error as Error);
      }
    },
  });
  try {
    await pipeline([Readable.from(pieces()), ...streams, taken]);
  } catch (error) {
    throw ended ?? notPacked(codings.join(", "), error);
  }
}

/** the first bytes of deflate with its wrapper */
const wrapped = Buffer.of(0x78, 0x9c);

/** A text in UTF-8 without its byte order mark. */
export const withoutMark = (text: Buffer): Buffer =>
  text[0] === 0xef && text[1] === 0xbb && text[2] === 0xbf ? text.subarray(3) : text;
