import type { RowPrints } from "../../scan/row-prints.ts";
import type { PageTable } from "../../scan/table.ts";
import { oneLine } from "../../sink/lines.ts";
import type { ShardWriter } from "../../sink/writer.ts";
import { outcomeLine } from "../operation-outcome.ts";
import { batchRows } from "../page-memory.ts";
import type { SearchLedger } from "./ledger.ts";
import type { PageView } from "./pages.ts";
import type { RowSelector, RowVerdict } from "./verdict.ts";

/** What a caller knows, and wants to be told, of the rows of a shard by their fingerprints. */
export interface FingerprintHooks {
  /** Answers true for resources that count as shown already: they are not written. */
  known?: (print: string) => boolean;
  /** takes the resources that another shard may have to write */
  foreign?: (print: string) => void;
  /** takes the resources that are not of the shard's window: newer, or older */
  outside?: (print: string, table: PageTable, row: number) => void;
}

/** Judges the rows of a search's pages and writes those that are lines. This is the hot loop of an export: nothing is
 *  made per row.
 *
 *  1. The scanner says how many of the next rows are plain (PageTable.plainRows), and makes their fingerprints.
 *  2. Plain rows that are lines as they are go to the writer as one run, up to the first that was shown before. Most
 *  pages are nothing else.
 *  3. Each other row gets a verdict. A new line joins the run before it.
 *  4. A row that is no such line ends the run: the lines before it are written, then the row is dealt with by
 *  itself. */
export class RowWriter {
  /** rows of the search so far that are resources, those outside of the shard's window included */
  shown = 0;
  readonly #writer: ShardWriter;
  readonly #select: RowSelector;
  readonly #hooks: FingerprintHooks;
  readonly #ledger: SearchLedger;
  readonly #takesRuns: boolean;

  constructor(writer: ShardWriter, select: RowSelector, hooks: FingerprintHooks, ledger: SearchLedger) {
    this.#writer = writer;
    this.#select = select;
    this.#hooks = hooks;
    this.#ledger = ledger;
    this.#takesRuns = select.plain === undefined && select.cut === undefined && hooks.known === undefined;
  }

  /** Writes what of a page was not shown before. */
  async write(view: PageView): Promise<void> {
    const { table, lines, prints } = view;
    const { count } = table;
    const writer = this.#writer;
    const isCut = this.#select.cut !== undefined;
    // the first row that is neither written nor passed over
    let run = 0;
    for (let from = 0; from < count; ) {
      const plain = table.plainRows(from, Math.min(count, from + batchRows));
      // A row that is not plain is a batch of its own.
      const to = Math.max(plain, from + 1);
      prints.make(table, from, to);
      let row = from;
      if (this.#takesRuns) {
        row += writer.showRun(prints.words, prints.wordOf(from), plain - from);
        this.shown += row - from;
        this.#ledger.showRun(prints, from, row - from);
      }
      for (; row < to; row++) {
        let verdict = this.#judge(table, row, row < plain);
        if (verdict === "unclear") verdict = await this.#select.ask!(table, row);
        this.#note(prints, row, verdict);
        const isNew = this.#isNew(view, row, verdict);
        if (isNew && verdict === "line" && !isCut) continue;
        const before = run < row ? writer.lines(lines, run, row) : undefined;
        if (before) await before;
        run = row + 1;
        const own = this.#settle(view, row, verdict, isNew);
        if (own) await own;
      }
      from = to;
    }
    const rest = run < count ? writer.lines(lines, run, count) : undefined;
    if (rest) await rest;
    this.#writeNotices();
  }

  #writeNotices(): void {
    const { notices } = this.#select;
    if (!notices || notices.size === 0) return;
    for (const text of notices) this.#writer.notice(outcomeLine("warning", "value", text));
    notices.clear();
  }

  #judge(table: PageTable, row: number, isPlain: boolean): RowVerdict {
    const { plain, any } = this.#select;
    return !isPlain ? any(table, row) : plain === undefined ? "line" : plain(table, row);
  }

  /** Notes in the ledger what the source has shown. */
  #note(prints: RowPrints, row: number, verdict: RowVerdict): void {
    if (verdict === "skip") return;
    if (verdict === "told" || typeof verdict === "object") {
      if (verdict === "told" || verdict.isMatch) this.#ledger.fault();
      return;
    }
    this.shown++;
    this.#ledger.show(prints, row, verdict !== "foreign" && verdict !== "outside");
  }

  /** Whether the row is a resource of the shard that was not shown before; then it counts as shown. */
  #isNew({ prints }: PageView, row: number, verdict: RowVerdict): boolean {
    if (verdict !== "line" && verdict !== "pass" && verdict !== "left") return false;
    const { known } = this.#hooks;
    return !known?.(prints.text(row)) && this.#writer.show(prints.words, prints.wordOf(row));
  }

  /** Deals with a row that is not part of a run of lines. @returns what must be awaited, if anything */
  #settle({ table, prints }: PageView, row: number, verdict: RowVerdict, isNew: boolean): Promise<void> | undefined {
    const writer = this.#writer;
    if (typeof verdict === "object") writer.error(verdict.outcome, verdict.errors);
    else if (verdict === "foreign") {
      writer.foreign();
      this.#hooks.foreign?.(prints.text(row));
    } else if (!isNew) {
      if (verdict === "outside") this.#hooks.outside?.(prints.text(row), table, row);
    } else if (verdict === "pass") writer.pass();
    else if (verdict === "left") writer.leave();
    else return writer.lines(oneLine(this.#select.cut!(table.resource(row))), 0, 1);
    return undefined;
  }
}
