/** One wrong answer, or several, to requests that match. */
export type Fault = {
  /** How many requests it hits. Default: 1. "always": every one, until it is cleared. */
  times?: number | "always";
  /** How many matching requests it spares before the first hit. */
  skip?: number;
  /** A part of `METHOD path?query`, with the query decoded, or several that must all be there. Default: every request
   *  below the base. */
  match?: string | readonly string[];
} & (
  | { kind: "status"; status: number; retryAfter?: number | string }
  /** A web page with 200, as a login portal or a wrong base URL gives. */
  | { kind: "html" }
  /** The body ends halfway. `clean`: the answer ends properly; else the connection closes. */
  | { kind: "cut"; clean?: boolean }
  /** The connection closes without an answer. */
  | { kind: "drop" }
  | { kind: "slow"; ms: number }
  /** JSON that is no Bundle. */
  | { kind: "notBundle" }
  /** 200 with an OperationOutcome instead of the Bundle. */
  | { kind: "outcomeInstead" }
  /** A page holds a resource of another type as a match. */
  | { kind: "wrongType" }
  /** A page holds an entry with search.mode outcome. */
  | { kind: "outcome" }
  /** A page holds a resource that is not JSON. */
  | { kind: "garbage" }
  /** A resource of a page has two numbers where one belongs, as a broken proxy or disk makes them. */
  | { kind: "badToken" }
  /** The next link leads to another server. */
  | { kind: "foreignNext"; origin?: string }
  /** The next link leads to the page itself. */
  | { kind: "repeatNext" }
  /** A page lacks its last entries. */
  | { kind: "shortPage"; missing?: number }
  /** A page holds each of its entries twice. */
  | { kind: "doubled" }
  /** A page begins with the last entries of the page before it. */
  | { kind: "overlap" }
  /** A page that is not the last has no next link. */
  | { kind: "noNext" }
  /** The server does not know its next links any more (410). */
  | { kind: "expired" }
);

/** What the server is like while this is set. The default of each member is what a well-behaved server does. */
export interface Behaviour {
  /** How a search is paged: by keyset cursors (default), by offsets into a fresh search (rows move under writes), or
   *  by a snapshot that the server keeps, as HAPI does. */
  paging?: "cursor" | "offset" | "snapshot";
  /** `_count` when a search has none. */
  defaultCount?: number;
  /** The largest `_count` that is granted. */
  maxCount?: number;
  /** Milliseconds that each page takes. */
  pageDelay?: number;
  /** Milliseconds that a page takes in addition when its search names `_lastUpdated`. */
  windowDelay?: number;
  gzip?: boolean;
  pretty?: boolean;
  /** Next links are repeated in a Link header. */
  linkHeader?: boolean;
  /** The link array of a Bundle comes after its entries. */
  linksLast?: boolean;
  /** Unknown parameters are refused with 400, as on HAPI (default), ignored, or ignored unless the request has
   *  handling=strict. */
  unknownParameters?: "reject" | "ignore" | "ignoreUnlessStrict";
  /** These parameters are dropped as if they had not been sent: names, or "all" for all but `_count`. */
  ignore?: readonly string[] | "all";
  /** The self link repeats parameters that are dropped. */
  ignoreButRepeat?: boolean;
  /** `_summary=count` is ignored, and a page comes. */
  noCount?: boolean;
  /** Pages always tell the total. Default: when they are asked to, or when one page holds all. */
  alwaysTotal?: boolean;
  /** Is added to every total, as where counts are estimates. */
  countError?: number;
  /** Searches show and count no more than this, as on servers over Elasticsearch. */
  resultCap?: number;
  /** Every count is 0, whatever there is. */
  countsNothing?: boolean;
  refuseSort?: boolean;
  /** The status of refusals that are 400 by default: of parameters, of sorting, of histories. */
  refusalStatus?: number;
  /** Searches with these parameters are 400. */
  refuse?: readonly string[];
  /** Searches with these parameters find nothing. */
  findNothing?: readonly string[];
  /** Of a repeated parameter only the last value counts. */
  lastOnly?: boolean;
  /** The index of `_lastUpdated` holds times rounded to this many ms: down, or to the nearest. */
  precision?: { ms: number; nearest?: boolean };
  /** Each search, as far as it is not continued by a next link, comes in another order. */
  unstableOrder?: boolean;
  /** `_history` of a type is 400. */
  noTypeHistory?: boolean;
  /** `_history` of an instance is 400. */
  noInstanceHistory?: boolean;
  /** Histories of instances show only this many versions, the newest, as after a purge of histories. */
  versionsKept?: number;
  /** A history of an instance without `_since` and `_at` shows as many versions as it had when it was first requested,
   *  as HAPI does by default. */
  staleVersionCount?: boolean;
  /** Bundle.type of histories; "searchset" is what a server gives that mistakes `_history` for a search. */
  historyType?: "history" | "searchset";
  /** Histories begin with the oldest version. */
  oldestFirst?: boolean;
  /** The entry of a deletion holds the rest of the resource and the time of its deletion, as on Microsoft's server. */
  deletionsHoldResources?: boolean;
  noPost?: boolean;
  /** versionIds are UUIDs, which tell no order. */
  uuidVersions?: boolean;
  /** How links are written: with the whole URL (default), relative to the base, or as a query alone. */
  linkForm?: "relative" | "query";
  /** The base by which the server calls itself in its links and fullUrls, as behind a proxy. */
  ownBase?: string;
  /** The last page of a search has a next link, too, to a page without entries. */
  linkBehindLast?: boolean;
  /** Good answers have this Retry-After. */
  retryAfter?: number;
  /** Answers have no Date, or one that a cache has kept. */
  date?: "none" | "aged";
  /** Another base URL; references that begin with it count as references to this server. */
  alias?: string;
  /** The server calls itself by its alias: in self links, and in its CapabilityStatement. */
  usesAlias?: boolean;
  /** Members of the CapabilityStatement, in place of those that it has. */
  statement?: Record<string, unknown>;
  /** The CapabilityStatement says of no type what can be done with it. */
  noInteractions?: boolean;
  /** Of the references in a list, searches find only the last. */
  lastReferenceOnly?: boolean;
  /** /metadata needs a sign-in, too. */
  closedMetadata?: boolean;
  /** Searches see a write only after this many ms, as where an index lags. */
  lag?: number;
  /** Each page is preceded by one without entries, as on servers that filter after they page. */
  emptyPages?: boolean;
  /** Every page that would hold one of these resources is a 500, or ends too early, or is not JSON inside the
   *  resource. */
  poison?: { ids: readonly string[]; as: 500 | "cut" | "notJSON" };
  /** So many characters are added to each next link, which then is good for a GET only, as continuation tokens are. */
  longLinks?: number;
  /** The last page of a search has one more next link. It is answered by a status, or by empty pages without end. */
  behindEnd?: number | "endless";
  /** No Bundle.total on pages. */
  noTotal?: boolean;
  /** Pages with more resources than this are refused by a status, or by 400 with an OperationOutcome too-costly. */
  tooMuch?: { above: number; as: 413 | 500 | 504 | "too-costly" };
  /** The longest request target; longer ones are 414 with a web page, as from Jetty. */
  maxURL?: number;
  /** The longest form of a POST search, in bytes. */
  maxForm?: number;
}

export interface Control {
  inject?: Fault | Fault[];
  behaviour?: Behaviour;
  auth?: Auth;
  /** JSON texts, whose decimals stay as they are, or resources. */
  put?: (string | object)[];
  /** `Type/id` */
  delete?: string[];
  clearFaults?: boolean;
}

export type Auth =
  | { kind: "none" }
  | { kind: "basic"; username: string; password: string }
  | { kind: "bearer"; token: string };

/** The faults that wait for their requests. */
export class Faults {
  #waiting: { fault: Fault; left: number; skip: number }[] = [];

  add(fault: Fault): void {
    this.#waiting.push({
      fault,
      left: fault.times === "always" ? Number.POSITIVE_INFINITY : (fault.times ?? 1),
      skip: fault.skip ?? 0,
    });
  }

  clear(): void {
    this.#waiting = [];
  }

  /** The faults that hit this request. They are counted down.
   *  @param applies which kinds can hit such a request at all */
  take(request: string, applies: (kind: Fault["kind"]) => boolean): Fault[] {
    const hit: Fault[] = [];
    for (const item of this.#waiting) {
      const { fault } = item;
      const parts = [fault.match ?? []].flat();
      if (!applies(fault.kind) || !parts.every((part) => request.includes(part))) continue;
      if (item.skip > 0) item.skip--;
      else {
        item.left--;
        hit.push(fault);
      }
    }
    this.#waiting = this.#waiting.filter(({ left }) => left > 0);
    return hit;
  }
}
