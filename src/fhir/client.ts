import { setTimeout as sleep } from "node:timers/promises";
import { gunzipSync } from "node:zlib";
import { Agent, request } from "undici";
import type { Task } from "../contracts.ts";
import { FailureError, showURL, terminal, transient, waiting } from "../failure.ts";
import { type Credentials, credentials } from "./auth.ts";
import { connector, tlsHint } from "./tls.ts";

export interface Answer {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  body: Buffer;
}

/** Larger than any page that a sane `paging.count` gives; the bound keeps a hostile source from exhausting the pod. */
const maxPageBytes = 256 * 1024 * 1024;
const firstDelayMs = 250;
const maxDelayMs = 20_000;
// HAPI needed 216 s for one awkward search (reference: real servers); what takes longer is not going to answer
const answerTimeoutMs = 300_000;

/** The FHIR server as the exporter sees it: GET with the page-level retry, the share of its limits and the error classes of DESIGN sections 5 and 7. */
export class SourceClient {
  readonly base: URL;
  /** seconds spent waiting because the source asked for it or the share was used up */
  throttledMs = 0;
  readonly #source: Task["source"];
  readonly #signal: AbortSignal;
  readonly #credentials: Credentials;
  readonly #agent: Agent;
  #notBefore = 0;

  constructor(source: Task["source"], folder: string, signal: AbortSignal) {
    this.#source = source;
    this.#signal = signal;
    this.base = new URL(source.baseURL.replace(/\/*$/, "/"));
    this.#credentials = credentials(source, folder, signal);
    this.#agent = new Agent({
      connections: Math.max(1, source.share.requests),
      allowH2: false,
      headersTimeout: answerTimeoutMs,
      bodyTimeout: answerTimeoutMs,
      connect: connector(folder),
    });
  }

  /** Resolves a link of the source. A page may not send us (and our credentials) elsewhere.
   *  @throws terminal SourceInconsistent */
  resolve(link: string): URL {
    const url = new URL(link, this.base);
    if (url.origin !== this.base.origin || !`${url.pathname}/`.startsWith(this.base.pathname))
      throw terminal(
        "SourceInconsistent",
        `the source's next link leads to ${showURL(url)}, away from spec.baseURL of the FhirSource (${showURL(this.base)})`,
      );
    return url;
  }

  /** GET, retried for `retrySeconds` while the failure may pass: network errors, 408, 429 (Retry-After obeyed by all chains), 5xx, a page cut short.
   *  Answers 2xx, and those of `accept` as they are.
   *  @param read turns the body into what the caller wants; a transient FailureError thrown by it is retried, too
   *  @throws waiting SourceUnreachable when the time is up; terminal SourceUnauthorized, SourceNotFHIR */
  async get<T>(link: string, read: (answer: Answer) => T, options: { accept?: number[]; retrySeconds?: number } = {}): Promise<T> {
    const url = this.resolve(link);
    const until = Date.now() + (options.retrySeconds ?? this.#source.retrySeconds) * 1000;
    for (let attempt = 0; ; attempt++) {
      try {
        return read(this.#judge(await this.#once(url), url, options.accept ?? []));
      } catch (error) {
        this.#signal.throwIfAborted();
        if (!(error instanceof FailureError) || error.class !== "transient") throw error;
        const asked = retryAfterMs(error.cause);
        const delay = asked ?? Math.random() * Math.min(maxDelayMs, firstDelayMs * 2 ** attempt);
        if (Date.now() + delay > until) throw waiting(error.reason, error.message, error);
        if (asked !== undefined) this.#notBefore = Math.max(this.#notBefore, Date.now() + asked);
        await sleep(delay, undefined, { signal: this.#signal });
      }
    }
  }

  async #once(url: URL): Promise<Answer> {
    const sent = await this.#credentials.header();
    const answer = await this.#send(url, sent);
    // a token that was revoked early, or a Secret that was rotated a moment ago
    if (answer.status !== 401 || !(await this.#credentials.renew(sent))) return answer;
    return this.#send(url, await this.#credentials.header());
  }

  async #send(url: URL, authorization: string | undefined): Promise<Answer> {
    await this.#turn();
    try {
      const answer = await request(url, {
        dispatcher: this.#agent,
        signal: this.#signal,
        headers: {
          accept: "application/fhir+json",
          // some servers reuse the result of an equal search for a minute (HAPI)
          "cache-control": "no-cache",
          // or an unknown parameter is dropped without a word
          prefer: "handling=strict",
          "user-agent": "fhir-export",
          ...(authorization && { authorization }),
        },
      });
      const chunks: Buffer[] = [];
      let length = 0;
      for await (const chunk of answer.body) {
        length += chunk.length;
        if (length > maxPageBytes) {
          answer.body.destroy();
          throw terminal(
            "SourceInconsistent",
            `a page of ${showURL(url)} is larger than ${maxPageBytes >> 20} MiB; lower paging.count of the FhirSource`,
          );
        }
        chunks.push(chunk as Buffer);
      }
      const body = chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks, length);
      return {
        status: answer.statusCode,
        headers: answer.headers,
        body: answer.headers["content-encoding"] === "gzip" ? gunzipSync(body) : body,
      };
    } catch (error) {
      if (error instanceof FailureError || this.#signal.aborted) throw error;
      const code = (error as NodeJS.ErrnoException).code ?? (error as Error).name;
      throw transient(
        "SourceUnreachable",
        `the source at ${showURL(this.base)} does not answer (${code}); check ${tlsHint(code) ?? "spec.baseURL of the FhirSource and the network"}`,
        error,
      );
    }
  }

  #judge(answer: Answer, url: URL, accept: number[]): Answer {
    const { status } = answer;
    const at = showURL(url);
    if (accept.includes(status)) return answer;
    if (status === 408 || status === 429 || status >= 500)
      throw transient("SourceUnreachable", `the source answers ${status} at ${at}`, { retryAfter: answer.headers["retry-after"] });
    if (status === 401 || status === 403)
      throw terminal(
        "SourceUnauthorized",
        `the source refuses our credentials (${status} at ${at}); check spec.auth of the FhirSource and its Secret`,
      );
    if (status >= 300 && status < 400)
      throw terminal(
        "SourceNotFHIR",
        `the source redirects (${status} at ${at}); name the final address in spec.baseURL of the FhirSource`,
      );
    if (/html/i.test(String(answer.headers["content-type"] ?? "")) || answer.body[0] === 0x3c)
      throw terminal("SourceNotFHIR", `${at} answers a web page, not FHIR JSON; check spec.baseURL of the FhirSource`);
    if (status >= 400) throw terminal("SourceNotFHIR", `the source answers ${status} at ${at}`);
    return answer;
  }

  /** Waits for this request's turn under requestsPerSecond and under a pause that the source asked for. */
  async #turn(): Promise<void> {
    const { perSecond } = this.#source.share;
    const now = Date.now();
    const at = Math.max(now, this.#notBefore);
    if (perSecond) this.#notBefore = at + 1000 / perSecond;
    if (at > now) {
      this.throttledMs += at - now;
      await sleep(at - now, undefined, { signal: this.#signal });
    }
  }

  async close(): Promise<void> {
    await Promise.all([this.#agent.destroy(), this.#credentials.close()]);
  }
}

function retryAfterMs(cause: unknown): number | undefined {
  const value = (cause as { retryAfter?: string } | undefined)?.retryAfter;
  if (!value) return undefined;
  const ms = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now();
  return Number.isFinite(ms) ? Math.max(0, ms) : undefined;
}
