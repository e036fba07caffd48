import { gunzipSync } from "node:zlib";
import type { Task } from "../contracts.ts";
import { FailureError, showURL, terminal, transient } from "../failure.ts";
import { type Surroundings, system } from "../surroundings.ts";
import { withTrailingSlash } from "../url.ts";
import { type Address, addresses } from "./address.ts";
import type { SourceCredentials } from "./auth/credentials.ts";
import { openCredentials } from "./auth/open.ts";
import { Connections } from "./connections.ts";
import {
  BrokenAnswer,
  Collector,
  type Head,
  type Headers,
  type Receiver,
  type Request,
  type Transport,
} from "./http.ts";
import { RequestLimiter, type RequestOutcome } from "./request-limiter.ts";
import { Retries, retryAfterMs } from "./retries.ts";
import { socketOpener, tlsHint } from "./tls.ts";

export interface SourceAnswer {
  status: number;
  headers: Headers;
  /** without its content coding */
  body: Buffer;
  /** milliseconds from the request to the head of its answer */
  ms: number;
}

export interface GetOptions {
  /** statuses that are no error here: their answers are given as they are */
  accept?: number[];
  /** seconds for which the request is repeated while the failure may pass; absent: the Task's `source.retrySeconds` */
  retrySeconds?: number;
  /** ends this request alone */
  signal?: AbortSignal;
  /** The request is for a page: it throws PageFailure after this many failures that may be the page's own, and how long
   *  its answer takes can be compared with other pages. */
  tries?: number;
}

/** One request to the source, with all that its tries have in common. */
interface SourceRequest {
  url: Address;
  into: Receiver;
  /** any of them ends it */
  signals: readonly AbortSignal[];
  /** how long its answer takes can be compared with other answers */
  isPage: boolean;
}

/** Larger than any page that a sensible `paging.count` gives. The bound keeps a hostile source from filling the pod's
 *  memory. */
export const maxPageBytes = 256 * 1024 * 1024;
/** A search whose URL is longer is sent by POST: servers and proxies refuse URLs of 8 kB, some of them shorter ones. */
const maxURL = 2000;
/** With these statuses servers say that they do not take searches by POST. */
const notPosted = [404, 405, 415, 501];
const maxRenewals = 4;
const usualHeaders: Request["headers"] = {
  accept: "application/fhir+json",
  // Some servers, such as HAPI, answer an equal search from a cache for a minute.
  "cache-control": "no-cache",
  // Without it a server may drop a parameter that it does not know, and say nothing.
  prefer: "handling=strict",
  "user-agent": "fhir-export",
};
const keptLinks = 256;

/** The FHIR server as the exporter sees it. It sends GET requests (long searches by POST), authenticated, within the
 *  run's share of the source's limits, repeats what may pass, and turns every other answer into a FailureError that
 *  names what to mend. */
export class SourceClient {
  readonly base: URL;
  readonly #source: Task["source"];
  readonly #signal: AbortSignal;
  readonly #credentials: SourceCredentials;
  readonly #surroundings: Surroundings;
  readonly #transport: Transport;
  readonly #limiter: RequestLimiter;
  /** false as soon as the source has refused a search by POST */
  #takesPost = true;
  #headers: Request["headers"] = usualHeaders;
  readonly #addressOf: (link: string) => Address;
  readonly #resolved = new Map<string, Address>();

  /** @param folder the folder of the Task, with the files of the source's Secrets
   *  @param signal ends all requests
   *  @param otherwise what is not the machine's own, in tests */
  constructor(
    source: Task["source"],
    folder: string,
    signal: AbortSignal,
    otherwise: Partial<Surroundings & { transport: Transport }> = {},
  ) {
    this.#source = source;
    this.#signal = signal;
    this.#surroundings = { ...system, ...otherwise };
    this.base = new URL(withTrailingSlash(source.baseURL));
    this.#addressOf = addresses(this.base);
    this.#credentials = openCredentials(source, folder, signal);
    const { clock } = this.#surroundings;
    this.#limiter = new RequestLimiter({ ...source.share, now: clock.monotonic, after: clock.after });
    this.#transport =
      otherwise.transport ??
      new Connections(socketOpener(folder, this.base), { max: Math.max(1, source.share.requests) });
  }

  /** Milliseconds that requests have waited, all together, for the source: for its Retry-After, because it is slow, or
   *  for the requests per second. */
  get throttledMs(): number {
    return this.#limiter.throttledMs;
  }

  /** Resolves a link of the source. A page may not send us, and our credentials, to another server.
   *  @throws terminal SourceInconsistent */
  resolve(link: string): Address {
    const known = this.#resolved.get(link);
    if (known) return known;
    const url = this.#addressOf(link);
    // A link is resolved three times: when it is found in the first bytes of a page, when the page has come, and when
    // it is requested.
    if (this.#resolved.size >= keptLinks) this.#resolved.clear();
    this.#resolved.set(link, url);
    this.#resolved.set(url.href, url);
    return url;
  }

  /** Makes the error for a page that is longer than maxPageBytes. */
  readonly tooLong = () =>
    terminal(
      "SourceInconsistent",
      `a page of ${showURL(this.base)} is larger than ${maxPageBytes >> 20} MiB; lower paging.count of the FhirSource`,
    );

  /** Sends a GET, and repeats it while the failure may pass: network errors, 408, 429, 5xx, and an answer that broke
   *  off. A Retry-After holds the requests of all chains. It gives answers with 2xx, and those whose status is in
   *  `accept`.
   *  @param read turns the answer into what the caller wants. The request is also repeated where it throws a transient
   *    FailureError.
   *  @throws waiting SourceUnreachable when the time is over; PageFailure, see GetOptions.tries; terminal
   *    SourceUnauthorized or SourceNotFHIR */
  get<T>(link: string, read: (answer: SourceAnswer) => T, options: GetOptions = {}): Promise<T> {
    const body = new Collector(maxPageBytes, this.tooLong);
    return this.receive(
      link,
      body,
      ({ status, headers, ms }) => read({ status, headers, ms, body: decoded(body.bytes, headers) }),
      options,
    );
  }

  /** Does the same as `get`, but gives the body to `into` while it arrives. Each try starts `into` anew. */
  async receive<T>(link: string, into: Receiver, read: (head: Head) => T, options: GetOptions = {}): Promise<T> {
    const url = this.resolve(link);
    const { clock } = this.#surroundings;
    const until = clock.now() + (options.retrySeconds ?? this.#source.retrySeconds) * 1000;
    const signals = options.signal ? [this.#signal, options.signal] : [this.#signal];
    const request: SourceRequest = { url, into, signals, isPage: options.tries !== undefined };
    let retries: Retries | undefined;
    for (;;) {
      try {
        return read(this.#checkStatus(await this.#exchangeSigned(request), url, options.accept ?? []));
      } catch (error) {
        for (const signal of signals) signal.throwIfAborted();
        if (!(error instanceof FailureError) || error.class !== "transient") throw error;
        retries ??= new Retries(until, options.tries, this.#surroundings);
        await clock.sleep(retries.delayAfter(error), AbortSignal.any(signals));
      }
    }
  }

  /** Sends the request, and again after a 401 where there are newer credentials than those that were refused. */
  async #exchangeSigned(request: SourceRequest): Promise<Head> {
    for (let renewals = 0; ; renewals++) {
      const sent = await this.#credentials.header();
      const head = await this.#exchange(request, sent);
      if (head.status !== 401 || renewals === maxRenewals) return head;
      // The token was revoked early, or the Secret was rotated a moment ago, and perhaps once more while this request
      // was under way.
      const isOld = renewals === 0 ? await this.#credentials.renew(sent) : (await this.#credentials.header()) !== sent;
      if (!isOld) return head;
    }
  }

  /** Sends the request, a long search by POST, or by GET after all where the source takes no POST: most servers read a
   *  long URL all the same. */
  async #exchange(request: SourceRequest, authorization: string | undefined): Promise<Head> {
    const form = this.#asPost(request.url);
    const head = await this.#exchangeOnce(request, authorization, form);
    if (!form || !notPosted.includes(head.status)) return head;
    this.#takesPost = false;
    return this.#exchangeOnce(request, authorization, undefined);
  }

  /** Waits for the request's turn, sends it, and tells the limiter how it went. */
  async #exchangeOnce(
    { url, into, signals, isPage }: SourceRequest,
    authorization: string | undefined,
    post: { url: Address; form: string } | undefined,
  ): Promise<Head> {
    const done = await this.#limiter.turn(...signals);
    let outcome: RequestOutcome = { status: 0 };
    try {
      const head = await this.#transport.exchange(
        {
          url: post?.url ?? url,
          method: post ? "POST" : "GET",
          headers: this.#headersFor(authorization, post !== undefined),
          body: post?.form,
        },
        into,
        signals,
      );
      outcome = {
        status: head.status,
        ms: isPage ? head.ms : undefined,
        retryAfterMs: retryAfterMs(head, this.#surroundings.clock),
      };
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

  /** The POST that means the same as a search of a type whose URL is long (FHIR RESTful API, section 3.1.0.9 "search");
   *  undefined: the request stays a GET. */
  #asPost(url: Address): { url: Address; form: string } | undefined {
    if (!this.#takesPost || url.href.length <= maxURL || url.search === "") return undefined;
    if (!/^[A-Z][A-Za-z]+$/.test(url.pathname.slice(this.base.pathname.length))) return undefined;
    return { url: new URL(`${url.origin}${url.pathname}/_search`), form: url.search.slice(1) };
  }

  /** A request's URL as it may be shown. Of its path only those parts are shown that name no resource: ids of patients
   *  and Groups are as sensitive as data, and the next links of a server may hold anything. */
  #shownURL(url: Address): string {
    const [type = "", next, last] = url.pathname.slice(this.base.pathname.length).split("/");
    const known = (part: string | undefined, otherwise: string) =>
      part === undefined ? [] : [/^_(history|search)$/.test(part) ? part : otherwise];
    const parts = /^([A-Z][A-Za-z]+|metadata|_history|\.well-known)$/.test(type)
      ? [type, ...known(next, "{id}"), ...known(last, "…")]
      : ["…"];
    return showURL(this.base) + (url.pathname === this.base.pathname ? "" : parts.join("/"));
  }

  /** @returns the answer, where its status is one of `accept`, or 2xx and no web page @throws what its status means
   *    otherwise */
  #checkStatus(answer: Head, url: Address, accept: number[]): Head {
    const { status } = answer;
    const isWebPage = /html/i.test(String(answer.headers["content-type"] ?? "")) || answer.first === 0x3c;
    if (accept.includes(status) || (status < 300 && !isWebPage)) return answer;
    const at = this.#shownURL(url);
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
    throw terminal(
      "SourceNotFHIR",
      `the source answers ${status} at ${at}; check spec.baseURL of the FhirSource, and the log of the server`,
    );
  }

  async close(): Promise<void> {
    this.#transport.close();
    await this.#credentials.close();
  }
}

/** A body without its Content-Encoding. We ask for none, but some servers send gzip all the same.
 *  @throws transient SourceInconsistent where it is not gzip, or longer than maxPageBytes without it */
export function decoded(body: Buffer, headers: Headers): Buffer {
  if (headers["content-encoding"] !== "gzip") return body;
  try {
    return gunzipSync(body, { maxOutputLength: maxPageBytes });
  } catch (error) {
    throw transient(
      "SourceInconsistent",
      "a page of the source has Content-Encoding gzip, but its body is not gzip",
      error,
    );
  }
}
