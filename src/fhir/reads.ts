import { setTimeout as sleep } from "node:timers/promises";
import { terminal, transient } from "../failure.ts";
import { type Page, ScanError } from "../scan/page.ts";
import { scanPage } from "../scan/plain.ts";
import type { SourceAnswer, SourceClient } from "./client.ts";
import { type Search, searchURL } from "./search.ts";
import { type Statement, typesWith } from "./stated.ts";

/** A search page: its bytes, what the scanner found, and milliseconds until its first byte. */
export interface ReadPage {
  bytes: Buffer;
  page: Page;
  ms: number;
}

/** Reads a search page. Statuses of `accept` answer `{status}` alone.
 *  @param tries GetOptions.tries
 *  @throws terminal SourceNotFHIR when it is JSON but no Bundle; a page cut short is read again */
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
      answer.status >= 400 ? { status: answer.status } : { bytes: answer.body, page: scan(answer), ms: answer.ms },
    { accept, ...(tries !== undefined && { tries }) },
  );
}

function scan({ body }: SourceAnswer): Page {
  try {
    return scanPage(body);
  } catch (error) {
    if (!(error instanceof ScanError)) throw error;
    if (error.kind === "notBundle")
      throw terminal("SourceNotFHIR", `a search of the source does not give a Bundle: ${error.message}`, error);
    throw transient("SourceInconsistent", `a page of the source is broken: ${error.message}`, error);
  }
}

/** The number of matches by `_summary=count`; undefined where the source does not count. */
export async function countMatches(client: SourceClient, search: Omit<Search, "summary">): Promise<number | undefined> {
  const answer = await readPage(client, searchURL({ ...search, summary: true }), [400]);
  return "page" in answer ? answer.page.total : undefined;
}

export interface Capabilities {
  /** types that can be searched */
  types: Set<string>;
  /** names of the search parameters that are listed, by type */
  parameters: Map<string, ReadonlySet<string>>;
  typeHistory: boolean;
  instanceHistory: boolean;
}

/** The source's CapabilityStatement, which is also the first contact with it.
 *  @param retrySeconds short: an operator wants to know soon that the address is wrong */
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

/** The source's own clock: its `Date`, read until it ticks, so that all it stamped before is below it (DESIGN section
 *  7).
 *  @returns milliseconds; undefined when the source sends no Date of its own (a cache answers, or none) */
export async function readClock(client: SourceClient, type: string): Promise<number | undefined> {
  const date = () =>
    client.get(
      searchURL({ type, till: "1900-01-01T00:00:00.000Z", summary: true }),
      ({ headers }) => (headers.age === undefined ? Date.parse(String(headers.date)) : Number.NaN),
      {
        accept: [400],
      },
    );
  const first = await date();
  // whole seconds: it ticks within one, three leave room for a slow answer
  for (let polls = 0; polls < 60 && !Number.isNaN(first); polls++) {
    await sleep(50);
    const next = await date();
    if (next > first) return next;
  }
  return undefined;
}
