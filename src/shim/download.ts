import type { IncomingHttpHeaders } from "node:http";
import { pipeline, Readable } from "node:stream";
import { createGunzip } from "node:zlib";
import { contentType } from "../sink/layout.ts";
import type { ManifestItem } from "../sink/manifest.ts";
import type { Store } from "../sink/store.ts";
import { errorAnswer, type HttpAnswer, unavailable } from "./outcome.ts";
import { matchesTag, rangeOf, takesGzip, takesNDJSON } from "./ranges.ts";

export interface DownloadOptions {
  /** Redirect: by a signed URL where the store can make one, else as Stream */
  delivery: "Stream" | "Redirect";
  redirectSeconds: number;
  /** told once: how a stream ended, and how many bytes it gave */
  onEnd?: (how: "complete" | "aborted", bytes: number) => void;
}

/** A file of an export, as its request wants it: whole or a part, packed or not, or a URL to get it from. The body is a stream that reads from storage as fast
 *  as the client takes it. The bytes never change, so the tag is the manifest's checksum: the same from every replica, and after a copy of the folder. */
export async function download(
  headers: IncomingHttpHeaders,
  store: Store,
  { path, sha256, fileSize }: Pick<ManifestItem, "path" | "sha256" | "fileSize">,
  options: DownloadOptions,
): Promise<HttpAnswer> {
  if (!takesNDJSON(headers.accept))
    return errorAnswer(406, {
      code: "not-supported",
      text: "files are application/fhir+ndjson; the header Accept must allow that",
    });
  const packed = path.endsWith(".gz");
  const asStored = !packed || takesGzip(header(headers["accept-encoding"]));
  const etag = `"${sha256}${packed ? (asStored ? "-gzip" : "-identity") : ""}"`;
  const common = {
    "content-type": contentType,
    etag,
    "cache-control": "private, no-transform",
    "accept-ranges": asStored ? "bytes" : "none",
    ...(packed && { vary: "accept-encoding" }),
  };
  const { "if-match": ifMatch, "if-none-match": ifNoneMatch } = headers;
  if (ifMatch !== undefined && !matchesTag(ifMatch, etag, false))
    return errorAnswer(412, { code: "invalid", text: "the file is not the one that If-Match names" });
  if (ifNoneMatch !== undefined && matchesTag(ifNoneMatch, etag, true)) return { status: 304, headers: common };

  if (options.delivery === "Redirect" && asStored) {
    const location = await store.signedURL?.(path, options.redirectSeconds);
    // no-store: the URL is a capability, and ends
    if (location !== undefined) return { status: 307, headers: { location, "cache-control": "no-store" } };
  }

  const range = asStored ? rangeOf(header(headers.range), fileSize, etag, header(headers["if-range"])) : "whole";
  if (range === "unsatisfiable") {
    const answer = errorAnswer(416, { code: "invalid", text: "the file is shorter than the Range that is asked for" });
    return { ...answer, headers: { ...answer.headers, "content-range": `bytes */${fileSize}` } };
  }
  const part =
    range === "whole" ? { start: 0, count: fileSize } : { start: range.start, count: range.end - range.start + 1 };
  const found = await store.stream(path, part);
  if (!found) return unavailable("a file of the export is not in storage; it may have been removed");
  const body = asStored
    ? counted(found.body, part.count, options.onEnd)
    : counted(unpacked(found.body), undefined, options.onEnd);
  return {
    status: range === "whole" ? 200 : 206,
    headers: {
      ...common,
      ...(asStored && { "content-length": String(part.count) }),
      ...(asStored && packed && { "content-encoding": "gzip" }),
      ...(range === "whole"
        ? asStored
          ? { "repr-digest": reprDigest(sha256) }
          : {}
        : { "content-range": `bytes ${range.start}-${range.end}/${fileSize}` }),
    },
    body,
  };
}

const header = (value: string | string[] | undefined) => (Array.isArray(value) ? value.join() : value);

/** RFC 9530 */
const reprDigest = (sha256: string) => `sha-256=:${Buffer.from(sha256, "hex").toString("base64")}:`;

const unpacked = (stored: Readable): Readable => pipeline(stored, createGunzip(), () => {});

/** Passes a stream on. Storage that ends too early is an error: the connection breaks, and the client knows.
 *  @param expected bytes */
function counted(source: Readable, expected: number | undefined, onEnd: DownloadOptions["onEnd"]): Readable {
  let bytes = 0;
  let whole = false;
  async function* pass() {
    try {
      for await (const chunk of source as AsyncIterable<Buffer>) {
        bytes += chunk.length;
        yield chunk;
      }
      if (expected !== undefined && bytes !== expected) throw new Error("the stored file ends too early");
      whole = true;
    } finally {
      source.destroy();
      onEnd?.(whole ? "complete" : "aborted", bytes);
    }
  }
  return Readable.from(pass(), { objectMode: false, highWaterMark: 1 << 16 });
}
