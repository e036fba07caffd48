/** One resource of a search page, as plain.ts reads it: where it lies in the page's bytes, and what the exporter
 *  decides by. */
export interface Entry {
  /** offset of the resource's `{` */
  start: number;
  /** offset behind its `}` */
  end: number;
  /** It has no white space outside strings, so its bytes are its line. */
  compact: boolean;
  type: string;
  id: string;
  /** `meta.lastUpdated` as sent */
  lastUpdated: string | undefined;
  /** `search.mode` of the entry: match, include or outcome */
  mode: string | undefined;
}

/** A search page (a Bundle), as far as the exporter needs it. */
export interface Page {
  entries: Entry[];
  /** URL of the link of that relation, as sent */
  next: string | undefined;
  self: string | undefined;
  /** `Bundle.total`, where it is a whole number */
  total: number | undefined;
}

/** A page that cannot be read. `truncated`: the bytes end too early, so it is worth reading again. `syntax`: it is not
 *  JSON. `notBundle`: it is JSON, but not the answer of a search. Messages hold no content of the page. */
export class ScanError extends Error {
  readonly kind: "truncated" | "syntax" | "notBundle";
  constructor(kind: "truncated" | "syntax" | "notBundle", message: string) {
    super(message);
    this.kind = kind;
  }
}
