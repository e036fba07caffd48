import { createHash } from "node:crypto";
import { gunzipSync } from "node:zlib";
import { expected, type Resource, type Wanted } from "../sources/expected.ts";
import type { Store, Version } from "../sources/store.ts";
import { compact } from "../sources/text.ts";
import { cutOf } from "./elements.ts";
import { filters } from "./filters.ts";
import { baseURL, type End } from "./operator.ts";
import type { World } from "./world.ts";

/** What is left when a world has ended. */
export interface Outcome {
  world: World;
  end: End;
  /** the source, with all versions of all resources */
  source: Store;
  /** what storage holds: committed objects, and the names of what is not committed */
  objects: Map<string, Buffer>;
  uncommitted: string[];
}

interface Item {
  type: string;
  path: string;
  count: number;
  fileSize: number;
  sha256: string;
}
interface Manifest {
  transactionTime: string;
  output: Item[];
  deleted: Item[];
  error: Item[];
  extension: Record<string, unknown>;
}

/** How a resource of the output differs from what it should be. */
export interface Difference {
  type: string;
  kind: "missing" | "twice" | "older" | "newer" | "altered" | "uncalled";
  id: string;
}

/** What is wrong with how a world has ended, in sentences; nothing where all is well. */
export function judge(outcome: Outcome): string[] {
  const { end, objects, uncommitted } = outcome;
  if (end.end === "cancelled") {
    const left = [...objects.keys(), ...uncommitted];
    return left.length > 0 ? [`after the purge storage holds ${left.slice(0, 4).join(", ")}`] : [];
  }
  if (end.end === "failed") {
    const wrong = failureFault(outcome);
    return wrong === undefined ? [] : [wrong];
  }
  return judgeOutput(outcome);
}

/** A failure names what to mend. What nobody foresaw, and what the world does not explain, is a fault. */
function failureFault({ end, world }: Outcome): string | undefined {
  if (end.end !== "failed") return undefined;
  const { failure, command } = end;
  const text = `${command} fails: ${failure.class} ${failure.reason}: ${failure.message}`;
  if (/unexpected error/.test(failure.message)) return text;
  if (world.resources.some(({ id }) => id.length > 5 && failure.message.includes(id))) return `${text} (names an id)`;
  return isExplained(outcome(failure), world) ? undefined : text;
}
const outcome = ({ class: kind, reason, message }: { class: string; reason: string; message: string }) =>
  `${kind} ${reason} ${message}`;

/** Failures that a world may end with, and what it must be like for that. */
const explained: [RegExp, (world: World) => boolean][] = [
  [/^terminal InvalidFilter /, ({ export: { typeFilters } }) => typeFilters !== undefined],
  // The first contact is not asked again, so that a wrong address is known at once.
  [
    /^terminal SourceNotFHIR .*\/metadata/,
    ({ faults }) => faults.some(({ kind }) => ["html", "notBundle", "outcomeInstead", "status"].includes(kind)),
  ],
  [/^terminal \w+ .*onResourceError: Fail/, ({ export: { onResourceError } }) => onResourceError === "Fail"],
];

const isExplained = (text: string, world: World): boolean =>
  explained.some(([pattern, holds]) => pattern.test(text) && holds(world));

function judgeOutput(outcome: Outcome): string[] {
  const { objects, uncommitted } = outcome;
  const stored = objects.get("manifest.json");
  if (!stored) return ["complete, but there is no manifest"];
  const manifest = JSON.parse(stored.toString()) as Manifest;
  const wrong = judgeFiles(manifest, objects, uncommitted);
  if (wrong.length > 0) return wrong;
  const exact = manifest.extension["fhirexport.dev/exact"] === true;
  const told = tellings(manifest, objects);
  if (!exact && told.length === 0) return ["not exact, and nothing says why"];
  if (!exact && isWellBehaved(outcome.world)) return [`not exact, though all is well: ${told.join(" ")}`];
  const differences = compare(outcome, manifest);
  const untold = exact ? differences : differences.filter((one) => !isTold(one, told));
  const sentences = untold.map(
    ({ type, kind, id }) => `${exact ? "exact, but" : "not told:"} ${type}/${id} is ${kind}`,
  );
  return [...sentences, ...judgeDeleted(outcome, manifest, told)];
}

/** Nothing in the world could make anybody doubt. */
const isWellBehaved = ({ behaviour, faults, writes }: World): boolean =>
  Object.keys(behaviour).length === 0 && faults.length === 0 && writes.every(({ request }) => request === 0);

/** Storage must hold what the manifest names, and nothing else. */
function judgeFiles(manifest: Manifest, objects: Map<string, Buffer>, uncommitted: string[]): string[] {
  const wrong: string[] = [];
  const items = [...manifest.output, ...manifest.deleted, ...manifest.error];
  for (const { path, fileSize, sha256, count } of items) {
    const bytes = objects.get(path);
    if (!bytes) wrong.push(`the manifest names ${path}, which is not there`);
    else if (bytes.length !== fileSize || createHash("sha256").update(bytes).digest("hex") !== sha256)
      wrong.push(`${path} is not as the manifest says`);
    else if (linesOf(path, bytes).length !== count) wrong.push(`${path} does not have ${count} lines`);
  }
  const named = new Set([...items.map(({ path }) => path), "manifest.json", "SHA256SUMS", "_work/plan.json"]);
  for (const path of [...objects.keys(), ...uncommitted])
    if (!named.has(path)) wrong.push(`nothing names ${path}, which is in storage`);
  for (const path of named) if (!objects.has(path)) wrong.push(`there is no ${path}`);
  return wrong;
}

function linesOf(path: string, bytes: Buffer): string[] {
  const text = (path.endsWith(".gz") ? gunzipSync(bytes) : bytes).toString();
  return text.split("\n").slice(0, -1);
}

/** What the error files say. A file of a shard tells of the shard's type. */
function tellings(manifest: Manifest, objects: Map<string, Buffer>): string[] {
  return manifest.error.flatMap(({ path }) => {
    const type = /OperationOutcome-([A-Z][A-Za-z]+)-/.exec(path)?.[1] ?? "";
    return linesOf(path, objects.get(path)!).map((line) => {
      const { issue } = JSON.parse(line) as { issue: { diagnostics?: string; details?: { text?: string } }[] };
      return `${type} ${issue.map(({ diagnostics, details }) => diagnostics ?? details?.text ?? "").join(" ")}`;
    });
  });
}

/** Which words tell of which difference. */
const tells: Record<Difference["kind"], RegExp> = {
  missing: /missing|cannot be (obtained|read|known)|deleted|could not|error/i,
  twice: /twice/,
  older: /older|cannot be obtained/,
  newer: /newer/,
  altered: /altered/,
  uncalled: /newer|cannot be (obtained|known)/,
};

const isTold = ({ type, kind }: Difference, told: readonly string[]): boolean =>
  told.some(
    (text) => new RegExp(`\\b${type}\\b`).test(text) && (tells[kind].test(text) || text.startsWith(`${type} `)),
  );

/** The version of each resource at a moment, deletions included. */
function versionsAt(source: Store, till: number): Version[] {
  const found: Version[] = [];
  for (const type of source.types()) {
    const newest = new Map<string, Version>();
    for (const version of source.history(type)) if (version.lastUpdated < till) newest.set(version.id, version);
    found.push(...newest.values());
  }
  return found;
}

const lines = new WeakMap<Buffer, Buffer>();
function lineOf(bytes: Buffer): Buffer {
  let line = lines.get(bytes);
  if (!line) lines.set(bytes, (line = Buffer.from(compact(bytes.toString()))));
  return line;
}

function wantedOf({ export: request }: World, end: number): Wanted {
  const { level, groupId, patients, types, since, until, typeFilters = [] } = request;
  const byType = Map.groupBy(
    filters.filter(({ filter }) => typeFilters.includes(filter)),
    ({ type }) => type,
  );
  return {
    level,
    ...(groupId !== undefined && { groupId }),
    ...(patients && { patients }),
    ...(types && { types }),
    since,
    until,
    filters: Object.fromEntries([...byType].map(([type, own]) => [type, own.map(({ holds }) => holds)])),
    asOf: end,
  };
}

/** Compares the output with the state of the source at transactionTime. */
function compare({ world, source, objects }: Outcome, manifest: Manifest): Difference[] {
  const end = Date.parse(manifest.transactionTime) + 1;
  const state = new Map(
    versionsAt(source, end).flatMap(({ type, id, bytes }) => (bytes ? [[`${type}/${id}`, lineOf(bytes)]] : [])),
  );
  const want = expected({ baseURL, dump: () => state }, wantedOf(world, end));
  const differences: Difference[] = [];
  const seen = new Set<string>();
  for (const { path, type } of manifest.output)
    for (const line of linesOf(path, objects.get(path)!)) {
      const resource = JSON.parse(line) as Resource;
      const key = `${resource.resourceType}/${resource.id}`;
      const kind =
        resource.resourceType !== type
          ? "altered"
          : seen.has(key)
            ? "twice"
            : differenceOf(world, line, want.get(key)?.toString());
      seen.add(key);
      if (kind) differences.push({ type, id: resource.id, kind: refined(kind, resource, source, end) });
    }
  for (const key of want.keys())
    if (!seen.has(key)) {
      const [type, id] = key.split("/") as [string, string];
      differences.push({ type, id, kind: "missing" });
    }
  return differences;
}

function differenceOf({ export: { elements } }: World, line: string, want: string | undefined) {
  if (want === undefined) return "uncalled";
  if (!elements) return line === want ? undefined : "altered";
  return cutOf(want, elements) === cutOf(line, elements, true) ? undefined : "altered";
}

/** Whether a resource that is not as it should be is another version of itself. */
function refined(kind: Difference["kind"], { resourceType, id, meta }: Resource, source: Store, end: number) {
  if (kind !== "altered" && kind !== "uncalled") return kind;
  const version = source.versions(resourceType, id).find(({ versionId }) => versionId === meta?.versionId);
  if (!version) return kind;
  if (version.lastUpdated >= end) return "newer";
  const now = source.versions(resourceType, id).findLast(({ lastUpdated }) => lastUpdated < end);
  return now !== version ? "older" : kind;
}

/** `deleted` names what went since `since`, all of it unless a notice says otherwise, and nothing else. */
function judgeDeleted({ world, source, objects }: Outcome, manifest: Manifest, told: readonly string[]): string[] {
  const { since, until, types } = world.export;
  const listed = manifest.deleted.flatMap(({ path }) =>
    linesOf(path, objects.get(path)!).flatMap((line) =>
      (JSON.parse(line) as { entry: { request: { url: string } }[] }).entry.map(({ request }) => request.url),
    ),
  );
  const end = Math.min(Date.parse(manifest.transactionTime) + 1, until ? Date.parse(until) : Number.POSITIVE_INFINITY);
  if (since === undefined) return listed.length > 0 ? ["deletions are listed without since"] : [];
  const from = Date.parse(since);
  const went = versionsAt(source, end).filter(({ bytes, lastUpdated }) => !bytes && lastUpdated >= from);
  const state = new Map(
    versionsAt(source, Date.parse(manifest.transactionTime) + 1).flatMap(({ type, id, bytes }) =>
      bytes ? [[`${type}/${id}`, lineOf(bytes)]] : [],
    ),
  );
  const gone = new Set<string>();
  for (const { type, id } of went) {
    const last = source.versions(type, id).findLast(({ bytes, lastUpdated }) => bytes && lastUpdated < end);
    gone.add(`${type}/${id}`);
    if (last?.bytes) state.set(`${type}/${id}`, lineOf(last.bytes));
  }
  const { since: _, until: __, filters: ___, ...wanted } = wantedOf(world, end);
  const called = expected({ baseURL, dump: () => state }, wanted);
  const want = new Set([...gone].filter((key) => called.has(key)));
  const wrong = listed.filter((key) => !want.has(key)).map((key) => `${key} is listed as deleted, and is not`);
  const missing = [...want].filter((key) => !listed.includes(key));
  for (const key of missing) {
    const type = key.split("/")[0]!;
    if (types && !types.includes(type)) continue;
    if (!told.some((text) => new RegExp(`deletions of ${type}\\b`, "i").test(text)))
      wrong.push(`${key} was deleted, and is not listed`);
  }
  return wrong;
}
