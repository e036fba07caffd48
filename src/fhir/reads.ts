import { terminal, transient } from "../failure.ts";
import { type Page, ScanError } from "../scan/page.ts";
import { scanPage } from "../scan/plain.ts";
import type { Clock } from "../surroundings.ts";
import type { GetOptions, SourceAnswer, SourceClient } from "./client.ts";
import { type AnswerCause, PageFailure } from "./retries.ts";
import { type Search, searchURL } from "./search.ts";
import { type Statement, statedTypes, typesWith } from "./stated.ts";

/** A search page that was read. */
export interface ReadPage {
  bytes: Buffer;
  /** what the scanner found in them */
  page: Page;
  /** milliseconds from the request to the head of its answer */
  ms: number;
}

/** A search that was refused, or given up.
 *  `status` is undefined where no whole answer came. `isPerhapsPage`: other pages of the search may be readable. */
export interface RefusedPage {
  status: number | undefined;
  isPerhapsPage?: true;
}

/** Reads a search page that the export can do without.
 *  @param more `type` where the link does not say it
 *  @throws what SourceClient.get throws, but no PageFailure */
export async function probePage(
  client: SourceClient,
  link: string,
  more: Partial<GetOptions> = {},
): Promise<ReadPage | RefusedPage> {
  try {
    return await client.get(link, pageOf, { purpose: "probe", isPage: true, ...more });
  } catch (error) {
    if (!(error instanceof PageFailure)) throw error;
    return { status: error.status, ...(error.isOfOnePage && { isPerhapsPage: true as const }) };
  }
}

const pageOf = (answer: SourceAnswer): ReadPage | RefusedPage =>
  answer.isRefusal ? { status: answer.status } : { bytes: answer.body, page: scanAnswer(answer), ms: answer.ms };

function scanAnswer({ body }: SourceAnswer): Page {
  try {
    return scanPage(body);
  } catch (error) {
    throw toPageError(error);
  }
}

/** What an error of the scanner means for a search page: transient SourceNotFHIR where it is no Bundle, which some
 *  servers answer instead of an error, else transient SourceInconsistent, as the page may have been cut short. Other
 *  errors are given back unchanged. */
export function toPageError(error: unknown): unknown {
  if (!(error instanceof ScanError)) return error;
  if (error.kind === "notBundle") {
    const text = `the source answers a search with JSON that is no Bundle (${error.message}); check spec.baseURL of the FhirSource`;
    const failure = terminal("SourceNotFHIR", text, error);
    return transient("SourceNotFHIR", text, { failure, isTooMuch: false } satisfies AnswerCause);
  }
  return transient("SourceInconsistent", `a page of the source is broken: ${error.message}`, error);
}

/** Asks for the number of matches by `_summary=count`; undefined where the source does not count. */
export async function countMatches(client: SourceClient, search: Omit<Search, "summary">): Promise<number | undefined> {
  const answer = await probePage(client, searchURL({ ...search, summary: true }), { isPage: false });
  return "page" in answer ? answer.page.total : undefined;
}

/** What the source's CapabilityStatement says. */
export interface Capabilities {
  /** the release of FHIR that it names, such as `4.0.1` */
  fhirVersion: string | undefined;
  /** the base URL by which the server calls itself */
  url: string | undefined;
  /** the types that can be searched; empty where it does not say */
  types: Set<string>;
  /** the names of the search parameters that it lists, by type */
  parameters: Map<string, ReadonlySet<string>>;
  typeHistory: boolean;
  instanceHistory: boolean;
}

/** Reads the source's CapabilityStatement, which is also the first contact with the source.
 *  @param retrySeconds should be short, so that a wrong address is reported soon
 *  @throws terminal SourceNotFHIR where `/metadata` is missing or is no CapabilityStatement */
export function readCapabilities(client: SourceClient, retrySeconds: number): Promise<Capabilities> {
  // It is asked for again: gateways answer anything while the server behind them starts.
  const notFHIR = (what: string, cause?: unknown) => {
    const text = `/metadata is ${what} at spec.baseURL of the FhirSource; it must be the base of a FHIR server`;
    const failure = terminal("SourceNotFHIR", text, cause);
    return transient("SourceNotFHIR", text, { failure, isTooMuch: false } satisfies AnswerCause);
  };
  return client.get(
    "metadata",
    (answer) => {
      let statement: Statement;
      try {
        statement = JSON.parse(answer.body.toString());
      } catch (error) {
        throw notFHIR("not JSON", error);
      }
      if (statement?.resourceType !== "CapabilityStatement") throw notFHIR("no CapabilityStatement");
      const stated = statedTypes(statement);
      const { fhirVersion, implementation } = statement;
      const url = (implementation as { url?: unknown } | null | undefined)?.url;
      return {
        fhirVersion: typeof fhirVersion === "string" ? fhirVersion : undefined,
        url: typeof url === "string" ? url : undefined,
        types: typesWith(stated, "search-type"),
        parameters: new Map(stated.map(({ type, parameters }) => [type, parameters])),
        typeHistory: typesWith(stated, "history-type").size > 0,
        instanceHistory: typesWith(stated, "history-instance").size > 0,
      };
    },
    { purpose: "statement", retrySeconds },
  );
}

/** Reads the source's own clock: its header `Date`, asked for again until it shows the next second. At that moment
 *  every resource that the source has stamped before is older than the time it shows.
 *  @returns milliseconds since the epoch; undefined where the source sends no `Date`, or a cache answers (header
 *  `Age`) */
export async function readClock(client: SourceClient, type: string, clock: Clock): Promise<number | undefined> {
  const dateBy = (link: string) =>
    client.get(
      link,
      ({ headers }) => (headers.age === undefined ? Date.parse(String(headers.date)) : Number.NaN),
      link === "metadata" ? { purpose: "statement" } : { purpose: "probe" },
    );
  // Every answer has the time, a refusal too. Only a request that fails again and again has none.
  const links = [searchURL({ type, till: "1900-01-01T00:00:00.000Z", summary: true }), `${type}?_count=1`, "metadata"];
  for (const link of links)
    try {
      const first = await dateBy(link);
      // The header has whole seconds, so it changes within one. 15 polls of 200 ms leave room for slow answers. More of
      // them would find the moment earlier, and be a fifth of all requests of a small export.
      for (let polls = 0; polls < 15 && !Number.isNaN(first); polls++) {
        await clock.sleep(200);
        const next = await dateBy(link);
        if (next > first) return next;
      }
      return undefined;
    } catch (error) {
      if (!(error instanceof PageFailure)) throw error;
    }
  return undefined;
}
