import { PrintSet } from "./print-set.ts";

/** A set of fingerprints as latin1 strings, like a Set of them, but most of a large one is on disk. */
export class PrintTexts {
  // made when they are needed: a type may have 10,000 shards, and most have none of them
  #all: PrintSet | undefined;
  #gone: PrintSet | undefined;

  get size(): number {
    return (this.#all?.count ?? 0) - (this.#gone?.count ?? 0);
  }
  has(print: string): boolean {
    return this.#all?.has(print) === true && this.#gone?.has(print) !== true;
  }
  /** What was deleted must not be added again. */
  add(print: string): void {
    (this.#all ??= new PrintSet()).addPrint(print);
  }
  /** @returns false where it was not there */
  delete(print: string): boolean {
    return this.#all?.has(print) === true && (this.#gone ??= new PrintSet()).addPrint(print);
  }
  /** In any order. */
  forEach(visit: (print: string) => void): void {
    this.#all?.each((print) => {
      if (this.#gone?.has(print) !== true) visit(print);
    });
  }
  /** Gives memory and disk back. */
  close(): void {
    this.#all?.close();
    this.#gone?.close();
    this.#all = this.#gone = undefined;
  }
}
