/** One resource of a search page: offsets into the page's bytes, and what the exporter decides by. Built by a page scanner (plain.ts). */
export interface Entry {
  /** first byte of the resource's `{` */
  start: number;
  /** one past its `}` */
  end: number;
  /** no white space outside strings: the bytes are the line */
  compact: boolean;
  type: string;
  id: string;
  /** `meta.lastUpdated` as sent */
  lastUpdated: string | undefined;
  /** `search.mode` of the entry: match, include, outcome */
  mode: string | undefined;
}

export interface Page {
  entries: Entry[];
  /** URLs of `link` as sent */
  next: string | undefined;
  self: string | undefined;
  total: number | undefined;
}

/** `truncated`: the bytes end too early (try again); `syntax`: not JSON; `notBundle`: JSON, but no search answer. Messages hold no content. */
export class ScanError extends Error {
  readonly kind: "truncated" | "syntax" | "notBundle";
  constructor(kind: "truncated" | "syntax" | "notBundle", message: string) {
    super(message);
    this.kind = kind;
  }
}
