import type { TestEvent } from "node:test/reporters";

type EventData<Type extends TestEvent["type"]> = Extract<TestEvent, { type: Type }>["data"];

interface FileCount {
  passed: number;
  failed: number;
  ms: number;
}
interface Failure {
  name: string;
  file: string | undefined;
  error: string;
}

/** The length of the list of the slowest files. */
const slowest = 20;
const inSeconds = (ms: number) => (ms / 1000).toFixed(1);

/** What the tests have come to, file by file. */
class Tally {
  passed = 0;
  skipped = 0;
  readonly failures: Failure[] = [];
  /** how often a test was skipped for a reason */
  readonly skips = new Map<string, number>();
  readonly #files = new Map<string, FileCount>();

  #countOf(file: string | undefined): FileCount {
    const name = (file ?? "").replace(`${process.cwd()}/`, "");
    let count = this.#files.get(name);
    if (!count) this.#files.set(name, (count = { passed: 0, failed: 0, ms: 0 }));
    return count;
  }

  pass({ skip, todo, file, name, details }: EventData<"test:pass">): void {
    // a suite is counted only if it is skipped as a whole: then it does not name its tests
    if (details.type === "suite" && skip === undefined) return;
    if (skip !== undefined || todo !== undefined) {
      this.skipped += 1;
      const why = typeof skip === "string" ? skip : name;
      this.skips.set(why, (this.skips.get(why) ?? 0) + 1);
    } else if (file && !name.endsWith(".test.ts")) {
      this.passed += 1;
      this.#countOf(file).passed += 1;
    }
  }

  /** @returns whether it is a failure of its own, not that of a suite whose tests have failed */
  fail({ details: { error }, file, name }: EventData<"test:fail">): boolean {
    if ((error as { failureType?: string }).failureType === "subtestsFailed") return false;
    const cause = (error as { cause?: unknown }).cause ?? error;
    this.failures.push({ name, file, error: cause instanceof Error ? (cause.stack ?? cause.message) : String(cause) });
    this.#countOf(file).failed += 1;
    return true;
  }

  /** A file has ended; its time includes its hooks, but not the start of its process. */
  end({ file, duration_ms }: EventData<"test:summary">): void {
    if (file !== undefined) this.#countOf(file).ms = duration_ms;
  }

  *lines(): Generator<string> {
    for (const [file, { passed, failed, ms }] of [...this.#files].sort(([a], [b]) => a.localeCompare(b)))
      yield `${failed ? "✖" : "✔"} ${file}: ${passed} passed${failed ? `, ${failed} failed` : ""} (${inSeconds(ms)} s)`;
    yield* this.#slowestFiles();
    for (const { name, file, error } of this.failures) yield `\n✖ ${name}\n  ${file}\n${error.replace(/^/gm, "  ")}`;
    for (const [why, count] of this.skips) yield `!! skipped ${count}: ${why}`;
    yield `\n${walksOfRun()}`;
    yield `\n${this.passed} passed, ${this.failures.length} failed, ${this.skipped} skipped`;
  }

  *#slowestFiles(): Generator<string> {
    if (this.#files.size < 2) return;
    const byTime = [...this.#files].sort(([, a], [, b]) => b.ms - a.ms).slice(0, slowest);
    yield `\nthe slowest ${byTime.length} of ${this.#files.size} files:`;
    for (const [file, { ms }] of byTime) yield `${inSeconds(ms).padStart(8)} s  ${file}`;
  }
}

const walksOfRun = () =>
  process.env.FHIR_EXPORT_WALKS === "whole"
    ? "walks: over everything"
    : `walks: over a sample, which WALK_SEED=${process.env.WALK_SEED} draws again; npm run walks goes over everything`;

/** Prints one line per test file, each failure with its stack, each skip with its reason, the slowest files, how to
 *  draw the same samples again, and closes with `N passed, N failed, N skipped`. */
export default async function* reporter(source: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  yield `${walksOfRun()}\n`;
  const tally = new Tally();
  for await (const { type, data } of source) {
    if (type === "test:pass") tally.pass(data);
    else if (type === "test:summary") tally.end(data);
    else if (type === "test:fail") {
      if (tally.fail(data)) yield `✖ ${data.name} (${data.file})\n`;
    } else if (type === "test:stderr" || type === "test:stdout") {
      if (process.env.VERBOSE || data.message.startsWith("!!")) yield data.message;
    }
  }
  for (const line of tally.lines()) yield `${line}\n`;
}
