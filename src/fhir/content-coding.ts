import {
  brotliDecompressSync,
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
const inflateAny: Unpack = (body, options) =>
  ((body[0] ?? 0) & 0x0f) === 8 && body.readUInt16BE(0) % 31 === 0
    ? inflateSync(body, options)
    : inflateRawSync(body, options);

const unpackers: Record<string, Unpack> = {
  gzip: gunzipSync,
  "x-gzip": gunzipSync,
  deflate: inflateAny,
  br: brotliDecompressSync,
  zstd: zstdDecompressSync,
};

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
    const unpack = Object.hasOwn(unpackers, coding) ? unpackers[coding]! : undefined;
    if (!unpack)
      throw terminal(
        "SourceInconsistent",
        "the source sends a Content-Encoding that was not asked for and cannot be undone; let the server, or the proxy before it, send gzip or none",
      );
    try {
      body = unpack(body, { maxOutputLength: most });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ERR_BUFFER_TOO_LARGE") throw tooLong();
      throw transient(
        "SourceInconsistent",
        `a page of the source has Content-Encoding ${coding}, but its body is not ${coding}`,
        error,
      );
    }
  }
  return body;
}

/** A text in UTF-8 without its byte order mark. */
export const withoutMark = (text: Buffer): Buffer =>
  text[0] === 0xef && text[1] === 0xbb && text[2] === 0xbf ? text.subarray(3) : text;
