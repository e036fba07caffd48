import { isUtf8 } from "node:buffer";
import { createHash } from "node:crypto";
import type { Readable } from "node:stream";
import { createGunzip } from "node:zlib";
import type { Totals } from "../contracts.ts";
import { sha256Of } from "../digest.ts";
import { type FailureError, terminal } from "../failure.ts";
import { maxPageBytes } from "../fhir/client.ts";
import { manifestPath, sumsPath, workPrefix } from "../sink/layout.ts";
import { type Manifest, type ManifestItem, renderSums } from "../sink/manifest.ts";
import type { Store } from "../sink/store.ts";
import { sumByType } from "../totals.ts";
import { Doubles } from "./ids.ts";
import type { CommandResult, Work } from "./work.ts";

/** what ids may take while those that come twice are looked for: one look for types of up to 5.8 million resources */
const idBytes = 64 << 20;
/** no line is longer than a page, but for the tag of `elements` */
const maxLineBytes = maxPageBytes + 1024;

const isData = (path: string) => !path.startsWith(workPrefix) && /\.ndjson(\.gz)?$/i.test(path);

/** Reads a finished export again and proves it against its manifest: each file's size, SHA-256 and number of lines; that each line is a resource of the type
 *  that the manifest says, and that none comes twice; that SHA256SUMS says the same, and that no data file is there that the manifest does not name.
 *  What it says names files and line numbers, never ids.
 *  @param doublesOf for tests
 *  @throws terminal SourceInconsistent naming the first that differs; TargetUnreachable where a file is missing */
export async function verify(
  { store, board, log, signal }: Work,
  doublesOf = (most: number) => new Doubles(most, idBytes),
): Promise<CommandResult> {
  const found = await store.read(manifestPath);
  if (!found) throw terminal("TargetUnreachable", "there is no manifest.json: the export is not whole");
  const manifest = readManifest(found.bytes);
  await verifySums(store, manifest);
  await verifyFolder(store, manifest);

  const counted: (Totals & { type: string })[] = [];
  const note = ({ path, type, count, fileSize }: ManifestItem) => {
    const counts = { files: 1, resources: count, bytes: fileSize, errors: 0 };
    counted.push({ type, ...counts });
    board.set(path, type, counts);
  };
  const outputs = [...Map.groupBy(manifest.output, ({ type }) => type).values()];
  const doubles = doublesOf(Math.max(0, ...outputs.map(countOf)));
  for (const items of outputs) await verifyOnce(store, items, doubles, signal, note);
  for (const item of [...manifest.deleted, ...manifest.error]) {
    const type = manifest.deleted.includes(item) ? "Bundle" : item.type;
    await verifyFile(store, item, (line) => judge(line, type).fault, signal);
    note(item);
  }
  const { totals, types } = sumByType(counted);
  log.info({ files: totals.files }, "every file is as the manifest says");
  return { totals, types, manifestSHA256: sha256Of(found.bytes) };
}

const countOf = (items: readonly ManifestItem[]) => items.reduce((sum, { count }) => sum + count, 0);
const wrong = (what: string) => terminal("SourceInconsistent", what);

/** @throws where it is none, or names a file twice or outside of the folder */
function readManifest(bytes: Buffer): Manifest {
  let manifest: Manifest;
  try {
    manifest = JSON.parse(bytes.toString()) as Manifest;
  } catch {
    throw wrong("manifest.json is not JSON; it was changed after the export");
  }
  const paths = new Set<string>();
  for (const list of ["output", "deleted", "error"] as const) {
    if (!Array.isArray(manifest?.[list])) throw wrong(`manifest.json has no list ${list}`);
    for (const [index, item] of manifest[list].entries()) {
      const bad = Object.entries(isRight).find(([name, is]) => !is(item?.[name as keyof ManifestItem]));
      if (bad) throw wrong(`manifest.json: ${list}[${index}].${bad[0]} is missing, or not what it should be`);
      if (paths.size === paths.add(item.path).size)
        throw wrong(`manifest.json: ${list}[${index}].path names a file a second time`);
    }
  }
  return manifest;
}

const isCount = (value: unknown) => Number.isSafeInteger(value) && (value as number) >= 0;
const isDigest = (value: unknown) => typeof value === "string" && /^[0-9a-f]{64}$/.test(value);
const isRight: Partial<Record<keyof ManifestItem, (value: unknown) => boolean>> = {
  type: (value) => typeof value === "string",
  path: (value) =>
    typeof value === "string" && value.split("/").every((part) => part !== "" && part !== "." && part !== ".."),
  count: isCount,
  fileSize: isCount,
  sha256: isDigest,
  contentSha256: (value) => value === undefined || isDigest(value),
};

async function verifySums(store: Store, manifest: Manifest): Promise<void> {
  const sums = await store.read(sumsPath);
  if (!sums) throw terminal("TargetUnreachable", `${sumsPath} is not in storage`);
  const [there, right] = [sums.bytes.toString(), renderSums(manifest).toString()].map((text) => text.split("\n")) as [
    string[],
    string[],
  ];
  const length = Math.max(there.length, right.length);
  for (let line = 0; line < length; line++)
    if (there[line] !== right[line]) throw wrong(`${sumsPath}: line ${line + 1} is not as manifest.json says`);
}

async function verifyFolder(store: Store, manifest: Manifest): Promise<void> {
  const named = new Set([...manifest.output, ...manifest.deleted, ...manifest.error].map(({ path }) => path));
  for await (const { path } of store.list(""))
    if (isData(path) && !named.has(path)) throw wrong(`${path} is in the export's folder and not in manifest.json`);
}

/** The files of one type, and that each of its resources comes once. */
async function verifyOnce(
  store: Store,
  items: readonly ManifestItem[],
  doubles: Doubles,
  signal: AbortSignal,
  note: (item: ManifestItem) => void,
): Promise<void> {
  const passes = doubles.passesFor(countOf(items));
  for (let pass = 0; pass < passes; pass++) {
    doubles.begin(pass, passes);
    for (const item of items) {
      const see = (line: Buffer, number: number) => {
        const { fault, id } = judge(line, item.type);
        if (fault) return fault;
        if (!id) return "has no id";
        // what is more than the manifest counts takes no memory: the count is wrong
        if (number <= item.count) doubles.see(id);
        return undefined;
      };
      if (pass > 0) await readLines(store, item, see, signal);
      else {
        await verifyFile(store, item, see, signal);
        note(item);
      }
    }
  }
  if (doubles.suspected) await proveDoubles(store, items, doubles, signal);
}

/** Two ids may have one hash: looks at those that are suspected. */
async function proveDoubles(
  store: Store,
  items: readonly ManifestItem[],
  doubles: Doubles,
  signal: AbortSignal,
): Promise<void> {
  const places = new Map<string, string>();
  for (const item of items) {
    const { fault } = await readLines(
      store,
      item,
      (line, number) => {
        const { id } = judge(line, item.type);
        if (!id || !doubles.suspects(id)) return undefined;
        const place = places.get(id);
        places.set(id, `line ${number} of ${item.path}`);
        return place && `holds the resource of ${place} again`;
      },
      signal,
    );
    if (fault) throw fault;
  }
}

/** What a line holds, or why it is no resource of the type. */
function judge(line: Buffer, type: string): { fault?: string; id?: string } {
  if (!isUtf8(line)) return { fault: "is not UTF-8" };
  let resource: { resourceType?: unknown; id?: unknown } | null;
  try {
    resource = JSON.parse(line.toString()) as typeof resource;
  } catch {
    return { fault: "is not JSON" };
  }
  if (resource?.resourceType !== type) return { fault: `is not of type ${type}` };
  return typeof resource.id === "string" && resource.id !== "" ? { id: resource.id } : {};
}

/** @returns why the line is wrong */
type See = (line: Buffer, number: number) => string | undefined;

/** A file as its item says. What is wrong with a line is said only of a file whose digest is right: the others were changed. */
async function verifyFile(store: Store, item: ManifestItem, see: See, signal: AbortSignal): Promise<void> {
  const { path, fileSize, sha256, contentSha256, count } = item;
  const differs = (what: string) =>
    wrong(`${path}: ${what} than manifest.json says; the file was changed after the export`);
  const stored = createHash("sha256");
  const content = createHash("sha256");
  let size = 0;
  const { lines, fault } = await readLines(store, item, see, signal, {
    stored: (chunk) => {
      size += chunk.length;
      stored.update(chunk);
    },
    content: (chunk) => void content.update(chunk),
  });
  if (size !== fileSize) throw differs(`${size} bytes instead`);
  if (stored.digest("hex") !== sha256 || (contentSha256 && content.digest("hex") !== contentSha256))
    throw differs("another SHA-256");
  if (lines !== count) throw differs(`${lines} lines instead`);
  if (fault) throw fault;
}

/** @returns how many line ends there are, and what is wrong with the first wrong line */
async function readLines(
  store: Store,
  { path, contentSha256 }: ManifestItem,
  see: See,
  signal: AbortSignal,
  chunks: { stored: (chunk: Buffer) => void; content: (chunk: Buffer) => void } = {
    stored: () => {},
    content: () => {},
  },
): Promise<{ lines: number; fault: FailureError | undefined }> {
  const file = await store.stream(path);
  if (!file) throw terminal("TargetUnreachable", `${path} is in manifest.json and not in storage`);
  let lines = 0;
  let fault: FailureError | undefined;
  let pieces: Buffer[] = [];
  let length = 0;
  const tell = (what: string | undefined) => {
    if (what) fault ??= wrong(`${path}: line ${lines + (length > 0 ? 1 : 0)} ${what}`);
  };
  const take = (chunk: Buffer) => {
    let from = 0;
    for (let to = chunk.indexOf(10); to >= 0; to = chunk.indexOf(10, from)) {
      const last = chunk.subarray(from, to);
      const line = pieces.length > 0 ? Buffer.concat([...pieces, last]) : last;
      const whole = length <= maxLineBytes;
      pieces = [];
      length = 0;
      from = to + 1;
      lines++;
      if (!fault && whole) tell(see(line, lines));
    }
    if (from === chunk.length) return;
    length += chunk.length - from;
    if (length <= maxLineBytes) pieces.push(chunk.subarray(from));
    else {
      pieces = [];
      tell("is longer than any page that was exported");
    }
  };
  const gzip = contentSha256 !== undefined;
  try {
    for await (const chunk of gzip ? gunzipped(file.body, chunks.stored) : file.body) {
      signal.throwIfAborted();
      (gzip ? chunks.content : chunks.stored)(chunk as Buffer);
      take(chunk as Buffer);
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code?.startsWith("Z_"))
      throw wrong(`${path}: its gzip is broken behind line ${lines}; the file was changed after the export`);
    throw error;
  } finally {
    file.body.destroy();
  }
  if (length > 0) tell("has no end");
  return { lines, fault };
}

function gunzipped(body: Readable, stored: (chunk: Buffer) => void): Readable {
  const gunzip = createGunzip();
  body.on("data", stored).on("error", (error) => gunzip.destroy(error));
  return body.pipe(gunzip);
}
