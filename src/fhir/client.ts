import type { Task } from "../contracts.ts";
import { FailureError, showURL, terminal, transient, waiting } from "../failure.ts";
import { type Surroundings, system } from "../surroundings.ts";
import { withTrailingSlash } from "../url.ts";
import { type Address, addresses, type LinkedPage, shownURL } from "./address.ts";
import { AnsweredRequests } from "./answered.ts";
import { AskedCoding } from "./asked-coding.ts";
import type { SourceCredentials } from "./auth/credentials.ts";
import { openCredentials } from "./auth/open.ts";
import { Connections } from "./connections.ts";
import { decoded, withoutMark } from "./content-coding.ts";
import {
  BrokenAnswer,
  Collector,
  type Head,
  type Headers,
  type Receiver,
  type Request,
  type Transport,
  TransportError,
} from "./http.ts";
import { OwnHeaders } from "./own-headers.ts";
import { proxyHint } from "./proxy.ts";
import { answeredOf, failureOf, isTooMuch, meaningOf, type Purpose } from "./refusals.ts";
import { RequestLimiter, type RequestOutcome } from "./request-limiter.ts";
import { type AnswerCause, PageFailure, Retries, retryAfterMs, saysTooMuch, statusOf } from "./retries.ts";
import { socketOpener, tlsHint } from "./tls.ts";
import { Trouble } from "./trouble.ts";

export interface SourceAnswer {
  status: number;
  /** the source says no: the body is not what was asked for */
  isRefusal: boolean;
  headers: Headers;
  /** without its content coding */
  body: Buffer;
  /** milliseconds from the request to the head of its answer */
  ms: number;
}

export interface GetOptions {
  /** decides which answers are a refusal, which the caller is told, and which are errors (refusals.ts) */
  purpose: Purpose;
  /** the type that the request is about, where its URL does not say so; absent: what the URL says */
  type?: string;
  /** seconds for which the request is repeated while the failure may pass; absent: the Task's `source.retrySeconds` */
  retrySeconds?: number;
  /** ends this request alone */
  signal?: AbortSignal;
  /** after this many failures that may be the request's own it is given up, if the source answers others; absent: as
   *  usual */
  tries?: number;
  /** How long the answer takes can be compared with other pages. */
  isPage?: boolean;
  /** A smaller page can be asked for, so the request is given up soon where the answer says that it is too much. */
  canAskLess?: boolean;
}

/** One request to the source, with all that its tries have in common. */
interface SourceRequest {
  url: Address;
  into: Receiver;
  /** any of them ends it */
  signals: readonly AbortSignal[];
  options: GetOptions;
  isRepeated?: boolean;
}

/** Larger than any page of a sensible `paging.count`. It keeps a hostile source from filling the pod's memory. */
export const maxPageBytes = 256 * 1024 * 1024;
/** A search whose URL is longer is sent by POST: servers and proxies refuse URLs of 8 kB, some of them shorter ones. */
const [maxURL, maxRenewals] = [2000, 4];
/** For how long requests are tried until something has worked. */
export const firstContactSeconds = 30;
/** How often a request is tried before others are asked, to see whether the failure is its own. */
const usualTries = 4;
/** A witness is asked for its status. More than a page of a sensible size is not read of it. */
const maxWitnessBytes = 64 * 1024 * 1024;
const usualHeaders: Request["headers"] = {
  accept: "application/fhir+json",
  // Some servers, such as HAPI, answer an equal search from a cache for a minute.
  "cache-control": "no-cache",
  // Without it a server may drop a parameter that it does not know, and say nothing.
  prefer: "handling=strict",
  "user-agent": "fhir-export",
};
const [keptLinks, maxConnections] = [256, 256];

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
  /** holds requests back; connections follow */
  readonly limiter: RequestLimiter;
  /** false as soon as the source has refused a search by POST */
  #takesPost = true;
  #headers: Request["headers"] = usualHeaders;
  readonly #ownHeaders: OwnHeaders;
  #sentOwn: Request["headers"] | undefined;
  readonly #coding = new AskedCoding();
  #sentCoding: Request["headers"] | undefined;
  readonly #addressOf: (link: string, page?: LinkedPage) => Address;
  readonly #resolved = new Map<string, Address>();
  readonly #answered: AnsweredRequests;
  readonly trouble: Trouble;
  /** by type: the most resources per page that the source can give, where that is less than was asked for */
  readonly pageSizes = new Map<string, number>();

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
    this.#addressOf = addresses(this.base, source.links ?? "Auto");
    this.#answered = new AnsweredRequests(this.base.pathname);
    this.#credentials = openCredentials(source, folder, signal);
    this.#ownHeaders = new OwnHeaders(source.headers ?? [], folder);
    const { clock } = this.#surroundings;
    this.trouble = new Trouble(clock);
    this.limiter = new RequestLimiter({ ...source.share, now: clock.monotonic, after: clock.after });
    this.#transport =
      otherwise.transport ?? new Connections(socketOpener(folder, this.base, source.proxy), { max: maxConnections });
  }

  /** Resolves a link of the source. A page may not send us, and our credentials, to another server.
   *  @throws terminal SourceInconsistent */
  resolve(link: string): Address {
    return this.#resolved.get(link) ?? this.#remember(link, this.#addressOf(link));
  }

  /** Resolves the next link of a page.
   *  @param asked the link that the page was asked for by
   *  @returns undefined where there is no next page @throws terminal SourceInconsistent */
  next(asked: string, page: { next?: string | undefined; self?: string | undefined }): string | undefined {
    const { next, self } = page;
    if (next === undefined || next.trim() === "") return undefined;
    const known = this.#resolved.get(next);
    if (known) return known.href;
    const url = this.#addressOf(next, { asked: this.resolve(asked), self });
    // What the link of one page means may depend on the page, unless it is below the base as it stands.
    return this.#remember(url.href, url).href;
  }

  /** A link is resolved three times: when it is found in the first bytes of a page, when the page has come, and when it
   *  is requested. */
  #remember(link: string, url: Address): Address {
    if (this.#resolved.size >= keptLinks) this.#resolved.clear();
    this.#resolved.set(link, url);
    this.#resolved.set(url.href, url);
    return url;
  }

  /** Makes the error for a page that is longer than maxPageBytes. */
  readonly tooLong = () =>
    new PageFailure(
      waiting(
        "SourceInconsistent",
        `a page of ${showURL(this.base)} is larger than ${maxPageBytes >> 20} MiB; lower paging.count of the FhirSource`,
      ),
      413,
      true,
    );

  /** Sends a GET, and repeats it while the failure may pass: what refusals.ts calls busy or failing, network errors,
   *  and an answer that broke off. A Retry-After holds the requests of all chains. It gives answers with 2xx, and
   *  refusals.
   *  @param read turns the answer into what the caller wants. The request is also repeated where it throws a transient
   *    FailureError.
   *  @throws PageFailure where the request is given up: it fails again and again, while the source answers others;
   *    waiting SourceUnreachable when the time is over and the source answers nothing; terminal SourceUnauthorized or
   *    SourceNotFHIR */
  get<T>(link: string, read: (answer: SourceAnswer) => T, options: GetOptions): Promise<T> {
    const body = new Collector(maxPageBytes, this.tooLong);
    return this.receive(
      link,
      body,
      ({ status, headers, ms }, isRefusal) =>
        read({
          status,
          isRefusal,
          headers,
          ms,
          body: isRefusal ? body.bytes : withoutMark(decoded(body.bytes, headers, maxPageBytes, this.tooLong)),
        }),
      options,
    );
  }

  /** Does the same as `get`, but gives the body to `into` while it arrives. Each try starts `into` anew. */
  async receive<T>(
    link: string,
    into: Receiver,
    read: (head: Head, isRefusal: boolean) => T,
    options: GetOptions,
  ): Promise<T> {
    const url = this.resolve(link);
    const { clock } = this.#surroundings;
    const until = clock.now() + this.#secondsFor(url, options) * 1000;
    const signals = options.signal ? [this.#signal, options.signal] : [this.#signal];
    const request: SourceRequest = { url, into, signals, options };
    let retries: Retries | undefined;
    for (;;) {
      try {
        const head = await this.#exchangeSigned(request);
        const isRefusal = this.#isRefusal(head, request);
        const taken = read(head, isRefusal);
        this.trouble.end();
        if (!isRefusal) this.#answered.note(url, options.purpose === "search" || options.purpose === "probe");
        return taken;
      } catch (error) {
        for (const signal of signals) signal.throwIfAborted();
        if (!(error instanceof FailureError) || error.class !== "transient") throw error;
        request.isRepeated = true;
        this.#coding.noteFailure(error);
        this.trouble.note(error);
        retries ??= new Retries(until, options.tries ?? usualTries, this.#surroundings);
        await clock.sleep(await this.#delayAfter(error, request, retries), AbortSignal.any(signals));
      }
    }
  }

  /** For how long a request is tried. Until something has worked it is short, so that a wrong address is known soon. */
  #secondsFor(url: Address, { purpose, retrySeconds }: GetOptions): number {
    if (retrySeconds !== undefined) return retrySeconds;
    const isContact = (purpose === "probe" || purpose === "statement") && !this.#answered.worked(url).any;
    return isContact ? Math.min(firstContactSeconds, this.#source.retrySeconds) : this.#source.retrySeconds;
  }

  /** @returns milliseconds to wait before the request is sent again
   *  @throws PageFailure where the request is given up; what it has met where the time is over */
  async #delayAfter(error: FailureError, request: SourceRequest, retries: Retries): Promise<number> {
    const { url, options } = request;
    const status = statusOf(error);
    // What was given up once, after all its time, does not get all of it again.
    const { purpose } = options;
    const isLikeOthers = purpose === "probe" || purpose === "statement" || this.#answered.wasGivenUp(url, status);
    const isLess = options.canAskLess === true && saysTooMuch(error);
    const delay = retries.delayAfter(error, isLikeOthers, isLess);
    // What is no FHIR server is known after some tries. One that is ill, or has worked before, is waited for.
    const end = (error.cause as AnswerCause | undefined)?.failure ?? waiting(error.reason, error.message, error);
    const { any } = this.#answered.worked(url);
    const isNone = purpose === "statement" && retries.mayGiveUp && end.class === "terminal" && !any;
    const isOver = delay === undefined || isNone;
    if (purpose !== "statement" && retries.mayGiveUp && (await this.#answersOthers(request, isOver))) {
      this.#answered.noteGivenUp(url, status);
      throw new PageFailure(error, status, isLess);
    }
    if (!isOver) return delay;
    // A web page and the like instead of what has worked before is a gateway whose server is away.
    throw any && end.reason === "SourceNotFHIR" ? waiting("SourceUnreachable", end.message) : end;
  }

  /** Whether the source answers other requests while this one fails.
   *  @param isOver the time for the request is over: then requests for other types count as well */
  async #answersOthers({ url, signals, options }: SourceRequest, isOver: boolean): Promise<boolean> {
    const { own, others } = this.#answered.witnesses(url, options.type);
    for (const link of isOver ? [...own, ...others] : own) {
      const into = new Collector(maxWitnessBytes, this.tooLong);
      const witness: SourceRequest = { url: this.resolve(link), into, signals, options: { purpose: "probe" } };
      try {
        const head = await this.#exchangeSigned(witness);
        if (meaningOf("probe", answeredOf(head), { same: false, any: false }) === "answer") return true;
      } catch (error) {
        for (const signal of signals) signal.throwIfAborted();
        if (!(error instanceof FailureError)) throw error;
      }
    }
    return false;
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

  /** Sends the request, a long search by POST. Servers have many statuses by which they say that they take no POST, so
   *  a search that is refused is sent by GET after all: most servers read a long URL, too. */
  async #exchange(request: SourceRequest, authorization: string | undefined): Promise<Head> {
    const form = this.#asPost(request);
    const head = await this.#exchangeOnce(request, authorization, form);
    const isRefused = () => meaningOf("probe", answeredOf(head), { same: false, any: false }) === "no";
    if (!form || !isRefused()) return head;
    const byGet = await this.#exchangeOnce(request, authorization, undefined);
    // Where the GET is refused, too, it was the search that was refused, or nothing takes searches of this length.
    this.#takesPost = byGet.status >= 300;
    return byGet;
  }

  /** Waits for the request's turn, sends it, and tells the limiter how it went. */
  async #exchangeOnce(
    { url, into, signals, isRepeated, options: { isPage } }: SourceRequest,
    authorization: string | undefined,
    post: { url: Address; form: string } | undefined,
  ): Promise<Head> {
    const done = await this.limiter.turn(...signals);
    let outcome: RequestOutcome = { status: 0 };
    try {
      const head = await this.#transport.exchange(
        {
          url: post?.url ?? url,
          method: post ? "POST" : "GET",
          headers: this.#headersFor(authorization, post !== undefined, this.#coding.headers(isRepeated)),
          body: post?.form,
        },
        into,
        signals,
      );
      this.#coding.note(head);
      outcome = {
        status: head.status,
        ms: isPage ? head.ms : undefined,
        retryAfterMs: retryAfterMs(head, this.#surroundings.clock, this.#source.retrySeconds * 1000),
      };
      return head;
    } catch (error) {
      if (error instanceof FailureError || signals.some(({ aborted }) => aborted)) throw error;
      const met = (error instanceof BrokenAnswer ? error.cause : error) as NodeJS.ErrnoException;
      const code = met.code ?? met.name;
      if (met instanceof TransportError && code.startsWith("HTTP_")) throw this.#notHTTP(met);
      throw transient(
        "SourceUnreachable",
        `the source at ${showURL(this.base)} does not answer (${code}); check ${tlsHint(code) ?? proxyHint(code) ?? "spec.baseURL of the FhirSource and the network"}`,
        error,
      );
    } finally {
      done(outcome);
    }
  }

  /** The answer cannot be read as HTTP/1.1, for example because a proxy sends a header twice. */
  #notHTTP({ message }: TransportError): FailureError {
    const text = `an answer of ${showURL(this.base)} is no HTTP/1.1: ${message}; check the server, and the proxy before it`;
    const failure = terminal("SourceInconsistent", text);
    return transient("SourceInconsistent", text, { failure, isTooMuch: false } satisfies AnswerCause);
  }

  #headersFor(authorization: string | undefined, isForm: boolean, coding: Request["headers"]): Request["headers"] {
    const own = this.#ownHeaders.read();
    const isSame = this.#headers.authorization === authorization && this.#sentOwn === own;
    if (!isSame || coding !== this.#sentCoding) {
      [this.#sentOwn, this.#sentCoding] = [own, coding];
      this.#headers = { ...usualHeaders, ...coding, ...own, ...(authorization && { authorization }) };
    }
    return isForm ? { ...this.#headers, "content-type": "application/x-www-form-urlencoded" } : this.#headers;
  }

  /** The POST that means the same as a search of a type whose URL is long (FHIR RESTful API, section 3.1.0.9 "search");
   *  undefined: the request stays a GET. A next link is followed as it stands, whatever its length. */
  #asPost({ url, options }: SourceRequest): { url: Address; form: string } | undefined {
    if (!this.#takesPost || options.purpose === "next" || url.href.length <= maxURL || url.search === "")
      return undefined;
    if (!/^[A-Z][A-Za-z]+$/.test(url.pathname.slice(this.base.pathname.length))) return undefined;
    return { url: new URL(`${url.origin}${url.pathname}/_search`), form: url.search.slice(1) };
  }

  /** Whether the source refuses the request. @throws what the answer means where it is neither a refusal nor good */
  #isRefusal(head: Head, { url, into, options }: SourceRequest): boolean {
    const answered = answeredOf(head);
    const worked = this.#answered.worked(url);
    const meaning = meaningOf(options.purpose, answered, worked);
    if (meaning === "answer" || meaning === "no") return meaning === "no";
    const failure = failureOf(answered, shownURL(this.base, url));
    if (meaning === "unauthorized") throw failure;
    throw transient(failure.reason, failure.message, {
      head,
      failure,
      isTooMuch: isTooMuch(head.status, into.beginning?.() ?? ""),
    } satisfies AnswerCause);
  }

  async close(): Promise<void> {
    this.#transport.close();
    await this.#credentials.close();
  }
}
