import type { SearchEvidence } from "../../evidence.ts";
import type { RowPrints } from "../../scan/row-prints.ts";
import { PrintSet } from "../../sink/print-set.ts";

/** How many different resources the pages of one search have shown, whatever became of them: the number that is
 *  compared with what the source counts in the search.
 *
 *  A shard of one search needs no set of its own for that: the shard's writer knows all resources that were shown of
 *  the shard's window, so only others are kept here. Where several searches make up a shard, a resource may be shown by
 *  each of them, so each has its own set. */
export class SearchLedger {
  readonly #begun: SearchEvidence;
  /** undefined: the shard's writer keeps the resources of the shard */
  readonly #all: PrintSet | undefined;
  #others: PrintSet | undefined;
  /** How many of the resources in a set of its own are of the shard. */
  #inside = 0;
  /** rows that were no resource of the type, and entries without a resource: the source may have counted them */
  #faults = 0;

  /** @param begun what an earlier worker has noted of the search, up to the page that is read now */
  constructor(hasSearchesBeside: boolean, begun: SearchEvidence = { shown: 0 }) {
    this.#begun = begun;
    this.#all = hasSearchesBeside ? new PrintSet() : undefined;
  }

  /** Whether each row of the shard must be given to `show`. */
  get wantsAll(): boolean {
    return this.#all !== undefined;
  }

  /** Takes `count` rows of the shard, whose fingerprints lie one after the other from `row` on. */
  showRun(prints: RowPrints, row: number, count: number): void {
    if (!this.#all) return;
    // a run ends at each fingerprint that is known already
    for (let at = row; at < row + count; at++) {
      const added = this.#all.addRun(prints.words, prints.wordOf(at), row + count - at);
      this.#inside += added;
      at += added;
    }
  }

  /** Takes a row.
   *  @param isOfShard false: it is not of the shard's window, or belongs to another shard */
  show(prints: RowPrints, row: number, isOfShard: boolean): void {
    if (this.#all) {
      if (this.#all.add(prints.words, prints.wordOf(row)) && isOfShard) this.#inside++;
    } else if (!isOfShard) (this.#others ??= new PrintSet()).add(prints.words, prints.wordOf(row));
  }

  /** Takes answers that are reported as errors. They stand for resources that the source may have counted.
   *  @param resources how many */
  fault(resources = 1): void {
    this.#faults += resources;
  }

  /** What is known so far, for a checkpoint at the beginning of a page.
   *  The resources that the shard's writer keeps are not counted in it, as they are stored by themselves. */
  soFar(): SearchEvidence {
    return { ...this.#begun, shown: this.#begun.shown + this.#own };
  }

  /** What is known at the search's end.
   *  @param ofShard how many different resources the shard's writer has been shown */
  end(ofShard: number): SearchEvidence {
    const all = this.soFar();
    return this.#all ? { ...all, inside: this.#inside } : { ...all, shown: all.shown + ofShard };
  }

  /** Gives the memory back. */
  close(): void {
    this.#all?.close();
    this.#others?.close();
  }

  /** How many of the rows were reported by `fault`. */
  get faults(): number {
    return this.#faults;
  }

  get #own(): number {
    return (this.#all?.count ?? 0) + (this.#others?.count ?? 0) + this.#faults;
  }
}
