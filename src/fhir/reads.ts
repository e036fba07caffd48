import { terminal, transient } from "../failure.ts";
import { type Page, ScanError } from "../scan/page.ts";
import { scanPage } from "../scan/plain.ts";
import type { Clock } from "../surroundings.ts";
import type { SourceAnswer, SourceClient } from "./client.ts";
import { type Search, searchURL } from "./search.ts";
import { type Statement, typesWith } from "./stated.ts";

/** A search page that was read. */
export interface ReadPage {
  bytes: Buffer;
  /** what the scanner found in them */
  page: Page;
  /** milliseconds from the request to the head of its answer */
  ms: number;
}

/** Reads a search page. A page that is cut short is read again.
 *  @param accept statuses, 400 or above, for which it gives the status alone
 *  @param tries see GetOptions.tries
 *  @throws terminal SourceNotFHIR where the answer is JSON but no Bundle; else what SourceClient.get throws */
export function readPage(client: SourceClient, link: string): Promise<ReadPage>;
export function readPage(
  client: SourceClient,
  link: string,
  accept: number[],
  tries?: number,
): Promise<ReadPage | { status: number }>;
export function readPage(
  client: SourceClient,
  link: string,
  accept: number[] = [],
  tries?: number,
): Promise<ReadPage | { status: number }> {
  return client.get(
    link,
    (answer) =>
      answer.status >= 400
        ? { status: answer.status }
        : { bytes: answer.body, page: scanAnswer(answer), ms: answer.ms },
    { accept, ...(tries !== undefined && { tries }) },
  );
}

function scanAnswer({ body }: SourceAnswer): Page {
  try {
    return scanPage(body);
  } catch (error) {
    throw toPageError(error);
  }
}

/** What an error of the scanner means for a search page: terminal SourceNotFHIR where it is no Bundle, else transient
 *  SourceInconsistent, as the page may have been cut short. Other errors are given back unchanged. */
export function toPageError(error: unknown): unknown {
  if (!(error instanceof ScanError)) return error;
  if (error.kind === "notBundle")
    return terminal(
      "SourceNotFHIR",
      `the source answers a search with JSON that is no Bundle (${error.message}); check spec.baseURL of the FhirSource`,
      error,
    );
  return transient("SourceInconsistent", `a page of the source is broken: ${error.message}`, error);
}

/** Asks for the number of matches by `_summary=count`; undefined where the source does not count. */
export async function countMatches(client: SourceClient, search: Omit<Search, "summary">): Promise<number | undefined> {
  const answer = await readPage(client, searchURL({ ...search, summary: true }), [400]);
  return "page" in answer ? answer.page.total : undefined;
}

/** What the source's CapabilityStatement says. */
export interface Capabilities {
  /** the types that can be searched */
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
  const notFHIR = (what: string) =>
    terminal("SourceNotFHIR", `${what} at spec.baseURL of the FhirSource; it must be the base of a FHIR R4 server`);
  return client.get(
    "metadata",
    (answer) => {
      if (answer.status === 404) throw notFHIR("there is no /metadata (404)");
      let statement: Statement;
      try {
        statement = JSON.parse(answer.body.toString());
      } catch (error) {
        throw transient(
          "SourceNotFHIR",
          "the source's /metadata is not JSON; check spec.baseURL of the FhirSource",
          error,
        );
      }
      if (statement?.resourceType !== "CapabilityStatement") throw notFHIR("/metadata is no CapabilityStatement");
      const resources = (statement.rest ?? []).flatMap((rest) => rest.resource ?? []);
      return {
        types: typesWith(statement, "search-type"),
        parameters: new Map(
          resources.map(({ type, searchParam = [] }) => [type, new Set(searchParam.map(({ name }) => name))]),
        ),
        typeHistory: typesWith(statement, "history-type").size > 0,
        instanceHistory: typesWith(statement, "history-instance").size > 0,
      };
    },
    { accept: [404], retrySeconds },
  );
}

/** Reads the source's own clock: its header `Date`, asked for again until it shows the next second. At that moment
 *  every resource that the source has stamped before is older than the time it shows.
 *  @returns milliseconds since the epoch; undefined where the source sends no `Date`, or a cache answers (header
 *  `Age`) */
export async function readClock(client: SourceClient, type: string, clock: Clock): Promise<number | undefined> {
  const date = () =>
    client.get(
      searchURL({ type, till: "1900-01-01T00:00:00.000Z", summary: true }),
      ({ headers }) => (headers.age === undefined ? Date.parse(String(headers.date)) : Number.NaN),
      {
        accept: [400],
      },
    );
  const first = await date();
  // The header has whole seconds, so it changes within one. 60 polls of 50 ms leave room for slow answers.
  for (let polls = 0; polls < 60 && !Number.isNaN(first); polls++) {
    await clock.sleep(50);
    const next = await date();
    if (next > first) return next;
  }
  return undefined;
}
