import type { IncomingHttpHeaders } from "node:http";
import { pipeline, Readable } from "node:stream";
import { createGunzip } from "node:zlib";
import { contentType } from "../sink/layout.ts";
import type { ManifestItem } from "../sink/manifest.ts";
import type { Store } from "../sink/store.ts";
import { errorAnswer, type HttpAnswer, unavailable, withHeaders } from "./outcome.ts";
import { matchesTag, type Range, rangeOf, takesGzip, takesNDJSON } from "./ranges.ts";

export interface DownloadOptions {
  /** Redirect: by a signed URL where the store can make one, else as Stream. */
  delivery: "Stream" | "Redirect";
  redirectSeconds: number;
  /** Called once, when a stream has ended, with the number of bytes that it gave. */
  onEnd?: (how: "complete" | "aborted", bytes: number) => void;
}

type StoredFile = Pick<ManifestItem, "path" | "sha256" | "fileSize">;

/** Answers the request for a file of an export.
 *
 *  1. Choose the form in which the client gets it: as it is stored, or unpacked.
 *  2. Check the request's conditions against that form.
 *  3. Redirect to a signed URL of storage, where the settings and the store allow it.
 *  4. Else find the range that is asked for, and stream it.
 *
 *  The body reads from storage only as fast as the client reads the body. */
export async function download(
  headers: IncomingHttpHeaders,
  store: Store,
  file: StoredFile,
  { delivery, redirectSeconds, onEnd }: DownloadOptions,
): Promise<HttpAnswer> {
  if (!takesNDJSON(headers.accept)) return acceptsOtherType;
  const form = formOf(file, headers);
  const answer = answerCondition(headers, form);
  if (answer) return answer;

  if (delivery === "Redirect" && form.isStored) {
    const location = await store.signedURL?.(file.path, redirectSeconds);
    // no-store: whoever has the URL may read the file, and the URL expires
    if (location !== undefined) return { status: 307, headers: { location, "cache-control": "no-store" } };
  }

  const range = form.isStored
    ? rangeOf(headerValue(headers.range), file.fileSize, form.etag, headerValue(headers["if-range"]))
    : "whole";
  if (range === "unsatisfiable") return beyondEnd(file.fileSize);
  const part =
    range === "whole" ? { start: 0, count: file.fileSize } : { start: range.start, count: range.end - range.start + 1 };
  const found = await store.stream(file.path, part);
  if (!found) return unavailable("a file of the export is not in storage; its files may have been removed");
  if (!form.isStored)
    return { status: 200, headers: form.headers, body: counted(unpacked(found.body), undefined, onEnd) };
  return {
    status: range === "whole" ? 200 : 206,
    headers: {
      ...form.headers,
      "content-length": String(part.count),
      ...(form.isPacked && { "content-encoding": "gzip" }),
      ...rangeHeaders(file, range),
    },
    body: counted(found.body, part.count, onEnd),
  };
}

const acceptsOtherType = errorAnswer(406, {
  code: "not-supported",
  text: "files are application/fhir+ndjson; send a header Accept that allows that, or none",
});

/** How a client gets a file. */
interface FileForm {
  isPacked: boolean;
  /** The bytes go out as they are stored; else they are unpacked on the way. */
  isStored: boolean;
  etag: string;
  headers: Record<string, string>;
}

/** A file never changes, so its entity tag is the manifest's checksum: the same at every replica, and after the
 *  folder was copied. The unpacked form is another representation and has a tag of its own. */
function formOf({ path, sha256 }: StoredFile, headers: IncomingHttpHeaders): FileForm {
  const isPacked = path.endsWith(".gz");
  const isStored = !isPacked || takesGzip(headerValue(headers["accept-encoding"]));
  const etag = `"${sha256}${isPacked ? (isStored ? "-gzip" : "-identity") : ""}"`;
  return {
    isPacked,
    isStored,
    etag,
    headers: {
      "content-type": contentType,
      etag,
      "cache-control": "private, no-transform",
      "accept-ranges": isStored ? "bytes" : "none",
      ...(isPacked && { vary: "accept-encoding" }),
    },
  };
}

/** The answer to If-Match and If-None-Match; undefined: they let the file be sent. */
function answerCondition(headers: IncomingHttpHeaders, { etag, headers: own }: FileForm): HttpAnswer | undefined {
  const { "if-match": ifMatch, "if-none-match": ifNoneMatch } = headers;
  if (ifMatch !== undefined && !matchesTag(ifMatch, etag, false))
    return errorAnswer(412, {
      code: "invalid",
      text: "the file is not the one that the header If-Match names; send its ETag, or no If-Match",
    });
  return ifNoneMatch !== undefined && matchesTag(ifNoneMatch, etag, true) ? { status: 304, headers: own } : undefined;
}

const beyondEnd = (fileSize: number): HttpAnswer =>
  withHeaders(
    errorAnswer(416, {
      code: "invalid",
      text: `the header Range begins behind the end of the file, which has ${fileSize} bytes`,
    }),
    { "content-range": `bytes */${fileSize}` },
  );

function rangeHeaders(
  { sha256, fileSize }: StoredFile,
  range: Exclude<Range, "unsatisfiable">,
): Record<string, string> {
  return range === "whole"
    ? { "repr-digest": reprDigest(sha256) }
    : { "content-range": `bytes ${range.start}-${range.end}/${fileSize}` };
}

/** The header Repr-Digest (RFC 9530). */
const reprDigest = (sha256: string) => `sha-256=:${Buffer.from(sha256, "hex").toString("base64")}:`;

const headerValue = (value: string | string[] | undefined) => (Array.isArray(value) ? value.join() : value);

const unpacked = (stored: Readable): Readable => pipeline(stored, createGunzip(), () => {});

/** Passes a stream on and counts its bytes. Storage that ends too early is an error: the connection then breaks, and
 *  the client sees that the file is not whole.
 *  @param expected bytes; undefined: not known */
function counted(source: Readable, expected: number | undefined, onEnd: DownloadOptions["onEnd"]): Readable {
  let bytes = 0;
  let isComplete = false;
  async function* pass() {
    try {
      for await (const chunk of source as AsyncIterable<Buffer>) {
        bytes += chunk.length;
        yield chunk;
      }
      if (expected !== undefined && bytes !== expected) throw new Error("the stored file ends too early");
      isComplete = true;
    } finally {
      source.destroy();
      onEnd?.(isComplete ? "complete" : "aborted", bytes);
    }
  }
  return Readable.from(pass(), { objectMode: false, highWaterMark: 1 << 16 });
}
