/** One wrong answer, or several, to requests that match. */
export type Fault = {
  /** how many requests it hits; default 1; "always" until cleared */
  times?: number | "always";
  /** how many matching requests go unhurt first */
  skip?: number;
  /** substring of `METHOD path?query`, query decoded; default: every request below the base */
  match?: string;
} & (
  | { kind: "status"; status: number; retryAfter?: number | string }
  /** a web page with 200, as a login portal or a wrong base URL gives */
  | { kind: "html" }
  /** the body ends halfway: `clean` with a proper end of the answer, else by closing the connection */
  | { kind: "cut"; clean?: boolean }
  /** the connection closes without an answer */
  | { kind: "drop" }
  | { kind: "slow"; ms: number }
  /** JSON, but no Bundle */
  | { kind: "notBundle" }
  /** 200 with an OperationOutcome instead of what was asked for */
  | { kind: "outcomeInstead" }
  /** a page holds a resource of another type as a match */
  | { kind: "wrongType" }
  /** a page holds an entry with search.mode outcome */
  | { kind: "outcome" }
  /** a page holds a resource that is not JSON */
  | { kind: "garbage" }
  /** the next link leads elsewhere */
  | { kind: "foreignNext"; origin?: string }
  /** the next link leads to the page itself */
  | { kind: "repeatNext" }
  /** a page lacks its last entries */
  | { kind: "shortPage"; missing?: number }
  /** a page holds each of its entries twice */
  | { kind: "doubled" }
  /** a page begins with the last entries of the page that was asked for before it */
  | { kind: "overlap" }
  /** the last page is announced too early */
  | { kind: "noNext" }
  /** next links are no longer known (410) */
  | { kind: "expired" }
);

/** What the server is like, for as long as it is set. All optional; the defaults are a well-behaved server. */
export interface Behaviour {
  /** pages of a search: keyset cursors (default), offsets into a fresh search (rows move under writes), or a
   *  snapshot kept by the server as HAPI's */
  paging?: "cursor" | "offset" | "snapshot";
  /** `_count` when none is given, and the most that is granted */
  defaultCount?: number;
  maxCount?: number;
  /** milliseconds that each page takes */
  pageDelay?: number;
  /** ... and more where its search names `_lastUpdated` */
  windowDelay?: number;
  gzip?: boolean;
  pretty?: boolean;
  /** repeats next links in a Link header */
  linkHeader?: boolean;
  /** the link array of a Bundle comes after its entries */
  linksLast?: boolean;
  /** unknown parameters: 400 as HAPI (default), ignored, or ignored unless the request says handling=strict */
  unknownParameters?: "reject" | "ignore" | "ignoreUnlessStrict";
  /** drops these parameters as if never sent: names, or "all" but `_count` */
  ignore?: readonly string[] | "all";
  /** ... and yet the self link repeats them */
  ignoreButRepeat?: boolean;
  /** `_summary=count` is ignored: a page comes */
  noCount?: boolean;
  /** pages always say the total (default: when asked to, or when one page holds all) */
  alwaysTotal?: boolean;
  /** adds this to every total: counts are estimates */
  countError?: number;
  refuseSort?: boolean;
  /** 400 for these parameters */
  refuse?: readonly string[];
  /** searches with these parameters find nothing */
  findNothing?: readonly string[];
  /** of a parameter that comes more than once only the last is understood */
  lastOnly?: boolean;
  /** the index of `_lastUpdated` is as coarse as so many ms: rounded down, or to the nearest */
  precision?: { ms: number; nearest?: boolean };
  /** each search without next link comes in another order */
  unstableOrder?: boolean;
  /** 400 for `_history` of types, of instances */
  noTypeHistory?: boolean;
  noInstanceHistory?: boolean;
  /** instances show so many versions at most, the newest: as after a purge of histories */
  versionsKept?: number;
  /** as HAPI by default: an instance's history that is asked for without `_since` or `_at` shows as many versions as
   *  it had when it was first asked for */
  staleVersionCount?: boolean;
  /** Bundle.type of histories; "searchset" is what a server gives that takes `_history` for a search */
  historyType?: "history" | "searchset";
  /** histories begin with the oldest version */
  oldestFirst?: boolean;
  /** the entry of a deletion holds what is left of the resource, and says when it was deleted, as Microsoft's server
   *  does */
  deletionsHoldResources?: boolean;
  noPost?: boolean;
  /** another base URL whose references the server takes for its own */
  alias?: string;
  /** of references in a list only the last is found */
  lastReferenceOnly?: boolean;
  /** 401 also for /metadata */
  closedMetadata?: boolean;
  /** searches see a write only so many ms later: an index that lags */
  lag?: number;
  /** each page is announced by one without entries, as some servers do whose filters work behind the paging */
  emptyPages?: boolean;
  /** every page that would hold one of these resources is a 500, or ends too early */
  poison?: { ids: readonly string[]; as: 500 | "cut" };
  /** longest request target, else 414 with a web page as Jetty's; longest form */
  maxURL?: number;
  maxForm?: number;
}

export interface Control {
  inject?: Fault | Fault[];
  behaviour?: Behaviour;
  auth?: Auth;
  /** JSON texts, or resources; texts keep their decimals */
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

  /** The faults that hit this request; counts them down. `applies` says which kinds can hurt it at all. */
  take(request: string, applies: (kind: Fault["kind"]) => boolean): Fault[] {
    const hit: Fault[] = [];
    for (const item of this.#waiting) {
      const { fault } = item;
      if (!applies(fault.kind) || (fault.match !== undefined && !request.includes(fault.match))) continue;
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
