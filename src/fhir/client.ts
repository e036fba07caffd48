import { setTimeout as sleep } from "node:timers/promises";
import { gunzipSync } from "node:zlib";
import type { Task } from "../contracts.ts";
import { FailureError, showURL, terminal, transient, waiting } from "../failure.ts";
import { withTrailingSlash } from "../url.ts";
import { type Address, addresses } from "./address.ts";
import { type Credentials, credentials } from "./auth/open.ts";
import { Connections } from "./connections.ts";
import { BrokenAnswer, Collector, type Head, type Headers, type Receiver, type Request } from "./http.ts";
import { type Outcome, Pace } from "./request-limiter.ts";
import { socketOpener, tlsHint } from "./tls.ts";

export interface Answer {
  status: number;
  headers: Headers;
  body: Buffer;
  /** until its first byte */
  ms: number;
}

export interface GetOptions {
  /** statuses that are answered as they are */
  accept?: number[];
  retrySeconds?: number;
  /** ends this request alone */
  signal?: AbortSignal;
  /** after so many failures in a row that may be the page's own: PageFailure */
  tries?: number;
}

/** One page fails again and again, with 500, cut short or as broken JSON, while others may not: a resource in it that the server cannot render. */
export class PageFailure extends FailureError {
  constructor(failure: FailureError) {
    super("waiting", failure.reason, failure.message, { cause: failure });
  }
}

/** Larger than any page that a sane `paging.count` gives; the bound keeps a hostile source from exhausting the pod. */
export const maxPageBytes = 256 * 1024 * 1024;
/** Longer searches go by POST: servers and proxies refuse URLs of 8 kB, some shorter ones. */
const maxURL = 2000;
/** what servers say that do not take searches by POST */
const notPosted = [404, 405, 415, 501];
const maxRenewals = 4;
const usualHeaders: Request["headers"] = {
  accept: "application/fhir+json",
  // some servers reuse the result of an equal search for a minute (HAPI)
  "cache-control": "no-cache",
  // or an unknown parameter is dropped without a word
  prefer: "handling=strict",
  "user-agent": "fhir-export",
};
const keptLinks = 256;
const firstDelayMs = 250;
const maxDelayMs = 20_000;

/** The FHIR server as the exporter sees it: GET with the page-level retry, the share of its limits and the error classes of DESIGN sections 5 and 7. */
export class SourceClient {
  readonly base: URL;
  readonly #source: Task["source"];
  readonly #signal: AbortSignal;
  readonly #credentials: Credentials;
  readonly #connections: Connections;
  readonly #pace: Pace;
  #posts = true;
  #headers: Request["headers"] = usualHeaders;
  readonly #addressOf: (link: string) => Address;
  readonly #resolved = new Map<string, Address>();

  constructor(source: Task["source"], folder: string, signal: AbortSignal) {
    this.#source = source;
    this.#signal = signal;
    this.base = new URL(withTrailingSlash(source.baseURL));
    this.#addressOf = addresses(this.base);
    this.#credentials = credentials(source, folder, signal);
    this.#pace = new Pace({
      ...source.share,
      now: () => performance.now(),
      after: (ms, call) => {
        const timer = setTimeout(call, ms);
        return () => clearTimeout(timer);
      },
    });
    this.#connections = new Connections(socketOpener(folder, this.base), { max: Math.max(1, source.share.requests) });
  }

  /** milliseconds that requests have waited because the source asked for it, or is slow, or for the requests per second */
  get throttledMs(): number {
    return this.#pace.throttledMs;
  }

  /** Resolves a link of the source. A page may not send us (and our credentials) elsewhere.
   *  @throws terminal SourceInconsistent */
  resolve(link: string): Address {
    const known = this.#resolved.get(link);
    if (known) return known;
    const url = this.#addressOf(link);
    // a link is looked at when it is seen early, when its page is there, and when it is asked for
    if (this.#resolved.size >= keptLinks) this.#resolved.clear();
    this.#resolved.set(link, url);
    this.#resolved.set(url.href, url);
    return url;
  }

  /** A page that is refused because it is too long. */
  readonly tooLong = () =>
    terminal(
      "SourceInconsistent",
      `a page of ${showURL(this.base)} is larger than ${maxPageBytes >> 20} MiB; lower paging.count of the FhirSource`,
    );

  /** GET, retried for `retrySeconds` while the failure may pass: network errors, 408, 429 (Retry-After obeyed by all chains), 5xx, a page cut short.
   *  Answers 2xx, and those of `accept` as they are.
   *  @param read turns the body into what the caller wants; a transient FailureError thrown by it is retried, too
   *  @throws waiting SourceUnreachable when the time is up; terminal SourceUnauthorized, SourceNotFHIR */
  get<T>(link: string, read: (answer: Answer) => T, options: GetOptions = {}): Promise<T> {
    const body = new Collector(maxPageBytes, this.tooLong);
    return this.receive(
      link,
      body,
      ({ status, headers, ms }) => read({ status, headers, ms, body: decoded(body.bytes, headers) }),
      options,
    );
  }

  /** The same with a body that `into` takes as it comes; for each try it begins anew. */
  async receive<T>(link: string, into: Receiver, read: (head: Head) => T, options: GetOptions = {}): Promise<T> {
    const url = this.resolve(link);
    const until = Date.now() + (options.retrySeconds ?? this.#source.retrySeconds) * 1000;
    const signals = options.signal ? [this.#signal, options.signal] : [this.#signal];
    let others = 0;
    for (let attempt = 0; ; attempt++) {
      try {
        return read(
          this.#judge(await this.#once(url, into, signals, options.tries !== undefined), url, options.accept ?? []),
        );
      } catch (error) {
        for (const signal of signals) signal.throwIfAborted();
        if (!(error instanceof FailureError) || error.class !== "transient") throw error;
        // of the source, or of its token endpoint
        const asked = hasHeaders(error.cause) ? retryAfterMs(error.cause) : undefined;
        if (!mayBeThePage(error)) others++;
        else if (attempt - others + 1 >= (options.tries ?? Number.POSITIVE_INFINITY)) throw new PageFailure(error);
        const delay = asked ?? Math.random() * Math.min(maxDelayMs, firstDelayMs * 2 ** attempt);
        if (Date.now() + delay > until)
          throw options.tries && mayBeThePage(error)
            ? new PageFailure(error)
            : waiting(error.reason, error.message, error);
        await sleep(delay, undefined, { signal: AbortSignal.any(signals) });
      }
    }
  }

  async #once(url: Address, into: Receiver, signals: readonly AbortSignal[], paged: boolean): Promise<Head> {
    for (let renewals = 0; ; renewals++) {
      const sent = await this.#credentials.header();
      const head = await this.#send(url, sent, into, signals, paged);
      if (head.status !== 401 || renewals === maxRenewals) return head;
      // a token that was revoked early, or a Secret that was rotated a moment ago, and perhaps once more while this request was under way
      const isOld = renewals === 0 ? await this.#credentials.renew(sent) : (await this.#credentials.header()) !== sent;
      if (!isOld) return head;
    }
  }

  async #send(
    url: Address,
    authorization: string | undefined,
    into: Receiver,
    signals: readonly AbortSignal[],
    paged: boolean,
  ): Promise<Head> {
    const post = this.#asPost(url);
    const head = await this.#exchange(url, post, authorization, into, signals, paged);
    // where searches cannot be posted, most servers still read a long URL
    if (!post || !notPosted.includes(head.status)) return head;
    this.#posts = false;
    return this.#send(url, authorization, into, signals, paged);
  }

  /** @param paged its latency can be compared with that of others */
  async #exchange(
    url: Address,
    post: { url: Address; form: string } | undefined,
    authorization: string | undefined,
    into: Receiver,
    signals: readonly AbortSignal[],
    paged: boolean,
  ): Promise<Head> {
    const done = await this.#pace.turn(...signals);
    let outcome: Outcome = { status: 0 };
    try {
      const head = await this.#connections.exchange(
        {
          url: post?.url ?? url,
          method: post ? "POST" : "GET",
          headers: this.#headersFor(authorization, post !== undefined),
          body: post?.form,
        },
        into,
        signals,
      );
      outcome = { status: head.status, ms: paged ? head.ms : undefined, retryAfterMs: retryAfterMs(head) };
      return head;
    } catch (error) {
      if (error instanceof FailureError || signals.some(({ aborted }) => aborted)) throw error;
      const { cause } = error as Error;
      const code =
        ((error instanceof BrokenAnswer ? cause : error) as NodeJS.ErrnoException).code ?? (error as Error).name;
      throw transient(
        "SourceUnreachable",
        `the source at ${showURL(this.base)} does not answer (${code}); check ${tlsHint(code) ?? "spec.baseURL of the FhirSource and the network"}`,
        error,
      );
    } finally {
      done(outcome);
    }
  }

  #headersFor(authorization: string | undefined, isForm: boolean): Request["headers"] {
    if (this.#headers.authorization !== authorization)
      this.#headers = { ...usualHeaders, ...(authorization && { authorization }) };
    return isForm ? { ...this.#headers, "content-type": "application/x-www-form-urlencoded" } : this.#headers;
  }

  /** A search of a type whose URL is long, as the POST that means the same (FHIR http, section 3.1.0.9 "search"). */
  #asPost(url: Address): { url: Address; form: string } | undefined {
    if (!this.#posts || url.href.length <= maxURL || url.search === "") return undefined;
    if (!/^[A-Z][A-Za-z]+$/.test(url.pathname.slice(this.base.pathname.length))) return undefined;
    return { url: new URL(`${url.origin}${url.pathname}/_search`), form: url.search.slice(1) };
  }

  /** A request's URL as it may be shown: of its path what names no resource. Ids of patients and Groups are as sensitive as data, and a server's own next
   *  links may hold anything. */
  #show(url: Address): string {
    const [type = "", next, last] = url.pathname.slice(this.base.pathname.length).split("/");
    const known = (part: string | undefined, otherwise: string) =>
      part === undefined ? [] : [/^_(history|search)$/.test(part) ? part : otherwise];
    const parts = /^([A-Z][A-Za-z]+|metadata|_history|\.well-known)$/.test(type)
      ? [type, ...known(next, "{id}"), ...known(last, "…")]
      : ["…"];
    return showURL(this.base) + (url.pathname === this.base.pathname ? "" : parts.join("/"));
  }

  #judge(answer: Head, url: Address, accept: number[]): Head {
    const { status } = answer;
    const isWebPage = /html/i.test(String(answer.headers["content-type"] ?? "")) || answer.first === 0x3c;
    if (accept.includes(status) || (status < 300 && !isWebPage)) return answer;
    const at = this.#show(url);
    if (status === 408 || status === 429 || status >= 500)
      throw transient("SourceUnreachable", `the source answers ${status} at ${at}`, answer);
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
    if (isWebPage)
      throw terminal("SourceNotFHIR", `${at} answers a web page, not FHIR JSON; check spec.baseURL of the FhirSource`);
    throw terminal("SourceNotFHIR", `the source answers ${status} at ${at}`);
  }

  async close(): Promise<void> {
    this.#connections.close();
    await this.#credentials.close();
  }
}

/** What a body is behind its Content-Encoding. We ask for none; some send gzip all the same. */
export function decoded(body: Buffer, headers: Headers): Buffer {
  if (headers["content-encoding"] !== "gzip") return body;
  try {
    return gunzipSync(body, { maxOutputLength: maxPageBytes });
  } catch (error) {
    throw transient("SourceInconsistent", "a page of the source is not the gzip that it says", error);
  }
}

/** 500, a broken page, an answer that broke off; not 429, 502 to 504 or a network without an answer, which say nothing of the page. */
function mayBeThePage({ reason, cause }: FailureError): boolean {
  return reason === "SourceInconsistent" || cause instanceof BrokenAnswer || (isHead(cause) && cause.status === 500);
}

function retryAfterMs({ headers }: Pick<Head, "headers">): number | undefined {
  const value = headers["retry-after"];
  if (typeof value !== "string") return undefined;
  const ms = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now();
  return Number.isFinite(ms) ? Math.max(0, ms) : undefined;
}

const hasHeaders = (cause: unknown): cause is Pick<Head, "headers"> =>
  typeof (cause as Head | undefined)?.headers === "object";
const isHead = (cause: unknown): cause is Head => typeof (cause as Head | undefined)?.status === "number";
