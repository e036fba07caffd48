import type { TestEvent } from "node:test/reporters";

interface Failed {
  name: string;
  file: string | undefined;
  error: string;
}

const isLeaf = (data: { details: { type?: string | undefined } }) => data.details.type !== "suite";

/** how many of the slowest files are listed */
const slowest = 20;
const again = () =>
  process.env.FHIR_EXPORT_WALKS === "whole"
    ? "walks: over everything\n"
    : `walks: over the sample of WALK_SEED=${process.env.WALK_SEED}; npm run walks goes over everything\n`;
const inSeconds = (ms: number) => (ms / 1000).toFixed(1);

/** Prints one line per test file, each failure with its stack, each skip with its reason, the slowest files, how to draw the same samples again, and closes
 *  with `N passed, N failed, N skipped`. */
export default async function* reporter(source: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  yield again();
  let [passed, skipped] = [0, 0];
  const failures: Failed[] = [];
  const skips = new Map<string, number>();
  const perFile = new Map<string, { passed: number; failed: number; ms: number }>();
  const countOf = (file: string | undefined) => {
    const key = (file ?? "").replace(`${process.cwd()}/`, "");
    let count = perFile.get(key);
    if (!count) perFile.set(key, (count = { passed: 0, failed: 0, ms: 0 }));
    return count;
  };
  for await (const event of source) {
    if ((event.type === "test:pass" || event.type === "test:fail") && event.data.nesting === 0 && event.data.file)
      countOf(event.data.file).ms += event.data.details.duration_ms;
    // a suite that is skipped as a whole does not name its tests
    if (event.type === "test:pass" && (isLeaf(event.data) || event.data.skip !== undefined)) {
      const { skip, todo, file, name } = event.data;
      if (skip !== undefined || todo !== undefined) {
        skipped += 1;
        const why = typeof skip === "string" ? skip : name;
        skips.set(why, (skips.get(why) ?? 0) + 1);
      } else if (file && !name.endsWith(".test.ts")) {
        passed += 1;
        const count = countOf(file);
        count.passed += 1;
      }
    } else if (event.type === "test:fail") {
      const { details, file, name } = event.data;
      const { error } = details;
      if ((error as { failureType?: string }).failureType === "subtestsFailed") continue;
      const cause = (error as { cause?: unknown }).cause ?? error;
      failures.push({ name, file, error: cause instanceof Error ? (cause.stack ?? cause.message) : String(cause) });
      countOf(file).failed += 1;
      yield `✖ ${name} (${file})\n`;
    } else if (event.type === "test:stderr" || event.type === "test:stdout") {
      if (process.env.VERBOSE || event.data.message.startsWith("!!")) yield event.data.message;
    }
  }
  for (const [file, count] of [...perFile].sort(([a], [b]) => a.localeCompare(b)))
    yield `${count.failed ? "✖" : "✔"} ${file}: ${count.passed} passed${count.failed ? `, ${count.failed} failed` : ""} (${inSeconds(count.ms)} s)\n`;
  const byTime = [...perFile].sort(([, a], [, b]) => b.ms - a.ms);
  if (byTime.length > 1) yield `\nthe slowest ${Math.min(slowest, byTime.length)} of ${byTime.length} files:\n`;
  if (byTime.length > 1)
    for (const [file, { ms }] of byTime.slice(0, slowest)) yield `${inSeconds(ms).padStart(8)} s  ${file}\n`;
  for (const { name, file, error } of failures) yield `\n✖ ${name}\n  ${file}\n${error.replace(/^/gm, "  ")}\n`;
  for (const [why, count] of skips) yield `!! skipped ${count}: ${why}\n`;
  yield `\n${again()}`;
  yield `\n${passed} passed, ${failures.length} failed, ${skipped} skipped\n`;
}
