/** What a server says of the requests of one run: how many there were of each kind, and where the time went. */
import { closeSync, fstatSync, openSync, readSync } from "node:fs";

type Kind = "metadata" | "count" | "history" | "page" | "probe" | "other";

interface LoggedRequest {
  kind: Kind;
  /** in milliseconds since 1970 */
  began: number;
  ended: number;
}

export interface RequestSummary {
  /** of each kind that there was: requests, and how long they took together */
  kinds: Partial<Record<Kind, { requests: number; seconds: number }>>;
  /** seconds: until the first page of data is asked for, until the last one is answered, until the last request is, and
   *  until the end of the run */
  phases: { plan: number; pages: number; closing: number; end: number };
  /** seconds of the run in which the server had nothing to do */
  waits: number;
}

/** The server's log (test/hapi/server): [instant], milliseconds, status, bytes, method, and path with query. */
export class RequestLog {
  readonly #path: string;
  readonly #page: number;
  #read = 0;

  /** @param page resources of a page of data: a search for fewer is a probe */
  constructor(path: string, page: number) {
    this.#path = path;
    this.#page = page;
  }

  /** What was logged since the last call. */
  take(): LoggedRequest[] {
    const file = openSync(this.#path, "r");
    try {
      const bytes = Buffer.alloc(fstatSync(file).size - this.#read);
      readSync(file, bytes, 0, bytes.length, this.#read);
      this.#read += bytes.length;
      return bytes
        .toString()
        .split("\n")
        .filter(Boolean)
        .map((line) => this.#parse(line));
    } finally {
      closeSync(file);
    }
  }

  #parse(line: string): LoggedRequest {
    const [instant, ms, , , , url = ""] = line.split(" ");
    const began = Date.parse(instant!.slice(1, -1));
    return { kind: this.#kindOf(url), began, ended: began + Number(ms) };
  }

  #kindOf(url: string): Kind {
    if (url.includes("/metadata")) return "metadata";
    if (url.includes("_summary=count")) return "count";
    if (url.includes("_history")) return "history";
    const count = /[?&]_count=(\d+)/.exec(url)?.[1];
    return count === undefined ? "other" : Number(count) === this.#page ? "page" : "probe";
  }
}

/** @param began when the run began and ended, in milliseconds since 1970 */
export function summarize(requests: readonly LoggedRequest[], began: number, ended: number): RequestSummary {
  const kinds: RequestSummary["kinds"] = {};
  for (const { kind, began: from, ended: to } of requests) {
    const sum = (kinds[kind] ??= { requests: 0, seconds: 0 });
    sum.requests++;
    sum.seconds += (to - from) / 1000;
  }
  const pages = requests.filter(({ kind }) => kind === "page");
  const seconds = (from: number, to: number) => Math.max(0, to - from) / 1000;
  const firstPage = Math.min(ended, ...pages.map((one) => one.began));
  const lastPage = Math.max(firstPage, ...pages.map((one) => one.ended));
  const last = Math.max(lastPage, ...requests.map((one) => one.ended));
  return {
    kinds,
    phases: {
      plan: seconds(began, firstPage),
      pages: seconds(firstPage, lastPage),
      closing: seconds(lastPage, last),
      end: seconds(last, ended),
    },
    waits: idleSeconds(requests, began, ended),
  };
}

function idleSeconds(requests: readonly LoggedRequest[], began: number, ended: number): number {
  let [idle, busyUntil] = [0, began];
  for (const { began: from, ended: to } of requests.toSorted((a, b) => a.began - b.began)) {
    idle += Math.max(0, from - busyUntil);
    busyUntil = Math.max(busyUntil, to);
  }
  return (idle + Math.max(0, ended - busyUntil)) / 1000;
}
