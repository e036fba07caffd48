import type { Shard } from "../../contracts.ts";
import { terminal } from "../../failure.ts";
import { onceEach } from "../../fhir/links.ts";
import { PageFailure } from "../../fhir/retries.ts";
import type { ShardWriter } from "../../sink/writer.ts";
import type { ExportRun } from "../run.ts";
import type { PageAnswer, PageReader } from "./pages.ts";
import { type FingerprintHooks, RowWriter } from "./row-writer.ts";
import type { RowSelector } from "./verdict.ts";

/** A shard that is read: what its rows go through. */
export interface ShardRead extends ExportRun {
  shard: Shard;
  writer: ShardWriter;
  select: RowSelector;
  hooks: FingerprintHooks;
}

/** The same while its pages are read. */
export interface OpenShardRead extends ShardRead {
  reader: PageReader;
}

/** How one search of a shard ended. */
export type SearchEnd =
  | {
      end: "done";
      /** Bundle.total of the first page that was read */
      total: number | undefined;
      /** resources on its pages, those outside of the shard's window included */
      shown: number;
      outside: number;
    }
  /** The source does not know a next link any more. */
  | { end: "expired" }
  /** A page cannot be read. */
  | { end: "stuck"; failure: PageFailure; shown: number; outside: number };

/** Where the reading of a search begins. */
interface SearchStart {
  /** URL of the search's first page */
  first: string;
  /** URL of the page to begin with */
  from: string;
  /** how often a page is tried; absent: as usual */
  tries?: number;
}

/** Reads one search of a shard to its end, and writes what is selected and was not shown before.
 *  @throws terminal SourceInconsistent where the source refuses the search, or a next link repeats */
export async function readSearch(read: OpenShardRead, { first, from, tries }: SearchStart): Promise<SearchEnd> {
  const { work, shard, writer, reader } = read;
  const { source, board, log, signal } = work;
  const follow = onceEach(shard.type);
  const rows = new RowWriter(writer, read.select, read.hooks);
  let total: number | undefined;
  for (let link: string | undefined = from; link !== undefined; ) {
    signal.throwIfAborted();
    follow(link);
    let page: PageAnswer;
    try {
      page = await reader.read(link, tries);
    } catch (failure) {
      if (failure instanceof PageFailure) return { end: "stuck", failure, shown: rows.shown, outside: rows.outside };
      throw failure;
    }
    if (page.kind === "refused") {
      const { status } = page;
      if (link === first)
        throw terminal("SourceInconsistent", `the source refuses a search of ${shard.type} (${status})`);
      log.warn({ shard: shard.id, status }, "the source does not know the next link any more; reading the shard again");
      return { end: "expired" };
    }
    const { table } = page;
    if (link === from) total = table.total;
    writer.begin(link);
    await rows.write(page);
    const { next }: { next: string | undefined } = table;
    link = next === undefined ? undefined : source.resolve(next).href;
    await writer.pageDone(link);
    const { checkpointAt, ...counts } = writer.durable;
    board.set(shard.id, shard.type, counts, checkpointAt);
  }
  return { end: "done", total, shown: rows.shown, outside: rows.outside };
}
