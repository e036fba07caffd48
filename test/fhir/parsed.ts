import assert from "node:assert/strict";
import { type Headers, TransportError } from "../../src/fhir/http.ts";
import { AnswerParser } from "../../src/fhir/http1.ts";

export interface Parsed {
  status?: number;
  headers?: Headers;
  body: string;
  done: boolean;
  keptMs: number;
  /** the code of the TransportError that was thrown */
  code?: string;
}

/** Feeds an answer to a parser.
 *  @param ends the connection ends after these parts
 *  @param passes bytes that the parser expects are not written to it, but passed */
export function parseAnswer(parts: Buffer[], ends = false, passes = false): Parsed {
  const parsed: Parsed = { body: "", done: false, keptMs: 0 };
  const parser = new AnswerParser({
    head: (status, headers) => {
      assert.equal(parsed.status, undefined, "one head");
      Object.assign(parsed, { status, headers: { ...headers } });
    },
    body: (chunk) => {
      assert(parsed.status !== undefined && chunk.length > 0);
      parsed.body += chunk.toString("latin1");
    },
  });
  try {
    for (const part of parts) {
      if (passes && parser.expected > 0) {
        parsed.body += part.toString("latin1");
        parser.pass(part.length);
        continue;
      }
      // The buffer is overwritten as soon as write returns, as the socket's is.
      const lent = Buffer.from(part);
      parser.write(lent);
      lent.fill("!");
    }
    if (ends) parser.finish();
  } catch (error) {
    if (!(error instanceof TransportError)) throw error;
    parsed.code = error.code;
  }
  return { ...parsed, done: parser.done, keptMs: parser.keptMs };
}

export const bytes = (text: string) => Buffer.from(text, "latin1");
/** Parses a text in one piece, byte by byte, and in two pieces cut anywhere, and demands the same result each time. */
export function parseHoweverCut(text: string, ends = false): Parsed {
  const whole = bytes(text);
  const once = parseAnswer([whole], ends);
  const one = [...whole].map((byte) => Buffer.of(byte));
  assert.deepEqual(parseAnswer(one, ends), once, "byte by byte");
  assert.deepEqual(parseAnswer(one, ends, true), once, "what is expected, passed");
  for (let at = 0; at <= whole.length; at++)
    assert.deepEqual(parseAnswer([whole.subarray(0, at), whole.subarray(at)], ends), once, `cut at ${at}`);
  return once;
}

export const ok = (head: string, body = "") => `HTTP/1.1 200 OK\r\n${head}\r\n${body}`;
export const kept = Number.POSITIVE_INFINITY;
