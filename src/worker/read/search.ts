import type { Shard } from "../../contracts.ts";
import type { SearchEvidence } from "../../evidence.ts";
import { waiting } from "../../failure.ts";
import { onceEach } from "../../fhir/links.ts";
import { type SmallerPage, smallerPage } from "../../fhir/page-size.ts";
import { PageFailure } from "../../fhir/retries.ts";
import type { ShardWriter } from "../../sink/writer.ts";
import type { ExportRun } from "../run.ts";
import type { SearchLedger } from "./ledger.ts";
import type { PageAnswer, PageReader } from "./pages.ts";
import { type FingerprintHooks, RowWriter } from "./row-writer.ts";
import { believed } from "./searches.ts";
import type { RowSelector } from "./verdict.ts";

/** A shard that is read: what its rows go through. */
export interface ShardRead extends ExportRun {
  shard: Shard;
  writer: ShardWriter;
  select: RowSelector;
  hooks: FingerprintHooks;
  /** index of the only search that is to be read; absent: all */
  only?: number;
  /** how searches are read; absent: from their first resource to their last */
  how?: "backwards" | "inParts";
}

/** The same while its pages are read. */
export interface OpenShardRead extends ShardRead {
  reader: PageReader;
  /** of the search that is being read */
  ledger: SearchLedger;
}

/** How one search of a shard ended. */
export type SearchEnd =
  | {
      end: "done";
      /** `counted` is the Bundle.total of the first page that was read, if it has one */
      evidence: SearchEvidence;
      /** rows of its pages that are resources */
      shown: number;
    }
  /** The source does not know a next link any more. */
  | { end: "expired"; shown: number }
  /** The source refuses the search. */
  | { end: "refused"; status: number }
  /** A page was too much for the source: the search continues with smaller ones. */
  | { end: "tooMuch"; smaller: SmallerPage }
  /** A page cannot be read. */
  | { end: "stuck"; failure: PageFailure; shown: number };

/** Where the reading of a search begins. */
export interface SearchStart {
  /** URL of the search's first page */
  first: string;
  /** URL of the page to begin with */
  from: string;
  /** how often a page is tried; absent: as usual */
  tries?: number;
}

/** After so many pages without a resource one behind the other a search is given up: some servers name next links
 *  without end. Servers that filter after they page have some such pages. */
const maxEmptyPages = 200;

/** Reads one search of a shard to its end, and writes what is selected and was not shown before. The end is the page
 *  without a next link. Where all that is counted was shown, it is also the next link that cannot be followed, or leads
 *  to a page without resources: some servers name one more link than they have pages. */
export async function readSearch(read: OpenShardRead, { first, from, tries }: SearchStart): Promise<SearchEnd> {
  const { work, shard, writer, reader, ledger } = read;
  const { source, board, signal } = work;
  const follow = onceEach();
  const rows = new RowWriter(writer, read.select, read.hooks, ledger);
  const progress = new SearchProgress(rows, read);
  let emptyPages = 0;
  for (let link: string | undefined = from; link !== undefined; ) {
    signal.throwIfAborted();
    if (!follow(link)) return progress.stuck(endless("a next link of the source repeats"));
    const isFirst = link === first;
    // While it is read around, what is asked for is little already.
    const smaller = tries === undefined && !progress.isAllShown ? smallerPage(link, first) : undefined;
    const purpose = isFirst ? "search" : "next";
    const page = await orFailure(reader.read(link, { purpose, tries, canAskLess: smaller !== undefined }));
    if (!("table" in page)) {
      if (page.isTooMuch && smaller) return { end: "tooMuch", smaller };
      return progress.endAt(page, isFirst);
    }
    const { table } = page;
    if (link === from) progress.total = table.total;
    writer.begin(link);
    await rows.write(page);
    emptyPages = table.count > 0 ? 0 : emptyPages + 1;
    link = emptyPages > 0 && progress.isAllShown ? undefined : source.next(link, table);
    await writer.pageDone(link, ledger.soFar());
    const { checkpointAt, ...counts } = writer.durable;
    board.set(shard.id, shard.type, counts, checkpointAt);
    if (emptyPages === maxEmptyPages)
      return progress.stuck(endless(`${maxEmptyPages} pages of the source without a resource follow one another`));
  }
  return progress.done();
}

/** Whether all that is counted was shown. A whole number of thousands may be the most that the source counts, and no
 *  proof: servers on top of a search engine stop counting, and showing, at 1,000 or 10,000. */
export const isShown = (shown: number, count: number | undefined): boolean =>
  count !== undefined && shown > 0 && shown >= count && count % 1000 !== 0;

/** What a search has shown so far, and what its end means. */
class SearchProgress {
  /** Bundle.total of the first page that was read */
  total: number | undefined;
  readonly #rows: RowWriter;
  readonly #read: OpenShardRead;

  constructor(rows: RowWriter, read: OpenShardRead) {
    this.#rows = rows;
    this.#read = read;
  }

  /** All that the first page has counted. */
  get isAllShown(): boolean {
    return isShown(this.#rows.shown, this.total);
  }

  done(): SearchEnd {
    const { ledger, writer, shard } = this.#read;
    const evidence = ledger.end(writer.shown);
    const counted = believed(shard, this.total);
    const { shown } = this.#rows;
    return { end: "done", evidence: counted === undefined ? evidence : { ...evidence, counted }, shown };
  }

  stuck(failure: PageFailure): SearchEnd {
    return this.isAllShown ? this.done() : { end: "stuck", failure, shown: this.#rows.shown };
  }

  /** @param isFirst the page is the first of the search */
  endAt(page: PageFailure | Exclude<PageAnswer, { kind: "page" }>, isFirst: boolean): SearchEnd {
    if (page instanceof PageFailure) return this.stuck(page);
    if (isFirst) return { end: "refused", status: page.status };
    return this.isAllShown ? this.done() : { end: "expired", shown: this.#rows.shown };
  }
}

const orFailure = (page: Promise<PageAnswer>): Promise<PageAnswer | PageFailure> =>
  page.catch((error: unknown) => {
    if (error instanceof PageFailure) return error;
    throw error;
  });

/** The pages are answered, and never come to an end. */
const endless = (what: string) => new PageFailure(waiting("SourceInconsistent", what), 200);
