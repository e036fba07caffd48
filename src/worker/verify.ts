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
import { DuplicateFinder } from "./ids.ts";
import type { CommandResult, Work } from "./work.ts";

/** Memory for the ids of a type while those that come twice are looked for. Types of up to 5.8 million resources are
 *  read once with it, larger ones several times. */
const idBytes = 64 << 20;
/** No line is longer than the page that it came from, but for the tag that `elements` adds. */
const maxLineBytes = maxPageBytes + 1024;

const isData = (path: string) => !path.startsWith(workPrefix) && /\.ndjson(\.gz)?$/i.test(path);

/** What the steps of one verification share. */
interface Verification {
  store: Store;
  signal: AbortSignal;
  duplicates: DuplicateFinder;
  /** called for each file that is as the manifest says */
  passed: (item: ManifestItem) => void;
}

/** Reads a finished export again and proves it against its manifest: size, SHA-256 and number of lines of each file;
 *  that each line is a resource of the type that the manifest says, and that no resource comes twice; that SHA256SUMS
 *  says the same; and that the folder has no data file that the manifest does not name. Its messages name files and
 *  line numbers, never ids.
 *  @param duplicatesOf only tests change it
 *  @throws terminal SourceInconsistent, naming the first difference; TargetUnreachable where a file is missing */
export async function verify(
  { store, board, log, signal }: Work,
  duplicatesOf = (most: number) => new DuplicateFinder(most, idBytes),
): Promise<CommandResult> {
  const found = await store.read(manifestPath);
  if (!found)
    throw terminal("TargetUnreachable", "manifest.json is not in storage: the export is not whole; verify one that is");
  const manifest = readManifest(found.bytes);
  await verifySums(store, manifest);
  await verifyFolder(store, manifest);

  const counted: (Totals & { type: string })[] = [];
  const passed = ({ path, type, count, fileSize }: ManifestItem) => {
    const counts = { files: 1, resources: count, bytes: fileSize, errors: 0 };
    counted.push({ type, ...counts });
    board.set(path, type, counts);
  };
  const outputs = [...Map.groupBy(manifest.output, ({ type }) => type).values()];
  const duplicates = duplicatesOf(Math.max(0, ...outputs.map(linesOf)));
  const verification: Verification = { store, signal, duplicates, passed };
  for (const items of outputs) await verifyType(verification, items);
  for (const item of [...manifest.deleted, ...manifest.error]) {
    const type = manifest.deleted.includes(item) ? "Bundle" : item.type;
    await verifyFile(verification, item, (line) => resourceIn(line, type).fault);
    passed(item);
  }
  const { totals, types } = sumByType(counted);
  log.info({ files: totals.files }, "every file is as the manifest says");
  return { totals, types, manifestSHA256: sha256Of(found.bytes) };
}

const linesOf = (items: readonly ManifestItem[]) => items.reduce((sum, { count }) => sum + count, 0);
const differs = (message: string) => terminal("SourceInconsistent", message);

/** @throws terminal SourceInconsistent where it is no manifest, or names a file twice or outside of the folder */
function readManifest(bytes: Buffer): Manifest {
  let manifest: Manifest;
  try {
    manifest = JSON.parse(bytes.toString()) as Manifest;
  } catch {
    throw differs("manifest.json is not JSON; it was changed after the export");
  }
  const paths = new Set<string>();
  for (const list of ["output", "deleted", "error"] as const) {
    if (!Array.isArray(manifest?.[list])) throw differs(`manifest.json has no list ${list}`);
    for (const [index, item] of manifest[list].entries()) {
      const bad = Object.entries(isValid).find(([name, is]) => !is(item?.[name as keyof ManifestItem]));
      if (bad) throw differs(`manifest.json: ${list}[${index}].${bad[0]} is missing or not valid`);
      if (paths.size === paths.add(item.path).size)
        throw differs(`manifest.json: ${list}[${index}].path names a file a second time`);
    }
  }
  return manifest;
}

const isWholeNumber = (value: unknown) => Number.isSafeInteger(value) && (value as number) >= 0;
const isDigest = (value: unknown) => typeof value === "string" && /^[0-9a-f]{64}$/.test(value);
const isValid: Partial<Record<keyof ManifestItem, (value: unknown) => boolean>> = {
  type: (value) => typeof value === "string",
  path: (value) =>
    typeof value === "string" && value.split("/").every((part) => part !== "" && part !== "." && part !== ".."),
  count: isWholeNumber,
  fileSize: isWholeNumber,
  sha256: isDigest,
  contentSha256: (value) => value === undefined || isDigest(value),
};

async function verifySums(store: Store, manifest: Manifest): Promise<void> {
  const sums = await store.read(sumsPath);
  if (!sums) throw terminal("TargetUnreachable", `${sumsPath} is not in storage`);
  const stored = sums.bytes.toString().split("\n");
  const right = renderSums(manifest).toString().split("\n");
  const length = Math.max(stored.length, right.length);
  for (let line = 0; line < length; line++)
    if (stored[line] !== right[line]) throw differs(`${sumsPath}: line ${line + 1} is not as manifest.json says`);
}

async function verifyFolder(store: Store, manifest: Manifest): Promise<void> {
  const named = new Set([...manifest.output, ...manifest.deleted, ...manifest.error].map(({ path }) => path));
  for await (const { path } of store.list(""))
    if (isData(path) && !named.has(path)) throw differs(`${path} is in the export's folder and not in manifest.json`);
}

/** Verifies the files of one type, and that each of its resources comes once. */
async function verifyType(verification: Verification, items: readonly ManifestItem[]): Promise<void> {
  const { duplicates, passed } = verification;
  const passes = duplicates.passesFor(linesOf(items));
  for (let pass = 0; pass < passes; pass++) {
    duplicates.begin(pass, passes);
    for (const item of items) {
      const check: LineCheck = (line, number) => {
        const { fault, id } = resourceIn(line, item.type);
        if (fault) return fault;
        if (!id) return "has no id";
        // lines beyond the manifest's count take no memory: the file fails by its count anyway
        if (number <= item.count) duplicates.see(id);
        return undefined;
      };
      if (pass > 0) await readLines(verification, item, check);
      else {
        await verifyFile(verification, item, check);
        passed(item);
      }
    }
  }
  if (duplicates.suspected) await compareSuspects(verification, items);
}

/** Compares the ids of suspects, because two different ids may have the same hash. */
async function compareSuspects(verification: Verification, items: readonly ManifestItem[]): Promise<void> {
  const places = new Map<string, string>();
  for (const item of items) {
    const { fault } = await readLines(verification, item, (line, number) => {
      const { id } = resourceIn(line, item.type);
      if (!id || !verification.duplicates.suspects(id)) return undefined;
      const place = places.get(id);
      places.set(id, `line ${number} of ${item.path}`);
      return place && `holds the resource of ${place} again`;
    });
    if (fault) throw fault;
  }
}

/** The id of the resource in a line, or why the line holds no resource of the type. */
function resourceIn(line: Buffer, type: string): { fault?: string; id?: string } {
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

/** Checks a line.
 *  @param number from 1
 *  @returns what is wrong with it */
type LineCheck = (line: Buffer, number: number) => string | undefined;

/** Verifies that a file is as its item says. A wrong line is reported only where the digest is right: any other file
 *  was changed after the export, and its lines say nothing. */
async function verifyFile(verification: Verification, item: ManifestItem, check: LineCheck): Promise<void> {
  const { path, fileSize, sha256, contentSha256, count } = item;
  const changed = (what: string) => differs(`${path} ${what}; the file was changed after the export`);
  const stored = createHash("sha256");
  const content = createHash("sha256");
  let size = 0;
  const { lines, fault } = await readLines(verification, item, check, {
    stored: (chunk) => {
      size += chunk.length;
      stored.update(chunk);
    },
    content: (chunk) => void content.update(chunk),
  });
  if (size !== fileSize) throw changed(`has ${size} bytes, and manifest.json says ${fileSize}`);
  if (stored.digest("hex") !== sha256 || (contentSha256 && content.digest("hex") !== contentSha256))
    throw changed("has another SHA-256 than manifest.json says");
  if (lines !== count) throw changed(`has ${lines} lines, and manifest.json says ${count}`);
  if (fault) throw fault;
}

/** Who else sees the bytes of a file: as stored, and, where it is compressed, as they were before. */
interface ChunkListeners {
  stored: (chunk: Buffer) => void;
  content: (chunk: Buffer) => void;
}

/** Reads a file and checks its lines until one is wrong.
 *  @returns how many line ends the file has, and what is wrong with the first wrong line
 *  @throws terminal TargetUnreachable where the file is missing; SourceInconsistent where its gzip is broken */
async function readLines(
  { store, signal }: Verification,
  { path, contentSha256 }: ManifestItem,
  check: LineCheck,
  listeners: ChunkListeners = { stored: () => {}, content: () => {} },
): Promise<{ lines: number; fault: FailureError | undefined }> {
  const file = await store.stream(path);
  if (!file) throw terminal("TargetUnreachable", `${path} is in manifest.json and not in storage`);
  const reader = new LineReader(path, check);
  const isGzip = contentSha256 !== undefined;
  try {
    for await (const chunk of isGzip ? gunzipped(file.body, listeners.stored) : file.body) {
      signal.throwIfAborted();
      (isGzip ? listeners.content : listeners.stored)(chunk as Buffer);
      reader.take(chunk as Buffer);
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code?.startsWith("Z_"))
      throw differs(`${path}: its gzip is broken behind line ${reader.lines}; the file was changed after the export`);
    throw error;
  } finally {
    file.body.destroy();
  }
  reader.end();
  return { lines: reader.lines, fault: reader.fault };
}

/** Cuts a file into lines, and checks each of them until one is wrong. */
class LineReader {
  /** line ends so far */
  lines = 0;
  fault: FailureError | undefined;
  readonly #path: string;
  readonly #check: LineCheck;
  /** the beginning of a line whose end has not come yet; empty when it is too long to be kept */
  #pieces: Buffer[] = [];
  #length = 0;

  constructor(path: string, check: LineCheck) {
    this.#path = path;
    this.#check = check;
  }

  take(chunk: Buffer): void {
    let from = 0;
    for (let to = chunk.indexOf(10); to >= 0; to = chunk.indexOf(10, from)) {
      const last = chunk.subarray(from, to);
      const line = this.#pieces.length > 0 ? Buffer.concat([...this.#pieces, last]) : last;
      const isComplete = this.#length <= maxLineBytes;
      this.#pieces = [];
      this.#length = 0;
      from = to + 1;
      this.lines++;
      if (!this.fault && isComplete) this.#note(this.#check(line, this.lines), this.lines);
    }
    if (from === chunk.length) return;
    this.#length += chunk.length - from;
    if (this.#length <= maxLineBytes) this.#pieces.push(chunk.subarray(from));
    else {
      this.#pieces = [];
      this.#note("is longer than any page that was exported", this.lines + 1);
    }
  }

  /** The file has ended. */
  end(): void {
    if (this.#length > 0) this.#note("has no end", this.lines + 1);
  }

  #note(fault: string | undefined, line: number): void {
    if (fault) this.fault ??= differs(`${this.#path}: line ${line} ${fault}`);
  }
}

function gunzipped(body: Readable, stored: (chunk: Buffer) => void): Readable {
  const gunzip = createGunzip();
  body.on("data", stored).on("error", (error) => gunzip.destroy(error));
  return body.pipe(gunzip);
}
