import { createHash } from "node:crypto";
import type { Clock } from "../../src/surroundings.ts";
import type { SampleResource } from "./generator.ts";
import { compact, members, stamp } from "./text.ts";

/** One version of a resource. */
export interface Version {
  type: string;
  id: string;
  versionId: string;
  /** Milliseconds since 1970. */
  lastUpdated: number;
  /** Absent: the version is a deletion. */
  bytes?: Buffer;
  /** The number of the write that made it. */
  sequence: number;
  /** Nothing was there before. */
  isFirst?: boolean;
}
export type Current = Version & { bytes: Buffer };

/** The order of every index: time, then id. */
export const byTime = (a: Version, b: Version): number =>
  a.lastUpdated - b.lastUpdated || (a.id < b.id ? -1 : a.id > b.id ? 1 : 0);

interface TypeIndex {
  current: Map<string, Current>;
  /** What searches see. It differs from `current` while the index lags. */
  indexed: Map<string, Current>;
  byTime: Current[];
  byID?: Current[] | undefined;
}

/** All versions of all resources, with an index by time per type. Resources are bytes; only what a filter asks for
 *  is parsed. */
export class Store {
  readonly #types = new Map<string, TypeIndex>();
  readonly #versions = new Map<string, Version[]>();
  readonly #now: () => number;
  readonly #clock: Clock;
  /** Writes that searches do not see yet, each with how its timer is cancelled. */
  readonly #waiting = new Map<() => void, () => void>();
  #sequence = 0;
  /** Milliseconds after which searches see a write. */
  lag = 0;
  /** Whether new versions get UUIDs. */
  uuidVersions = false;

  constructor(resources: Iterable<SampleResource>, now: () => number, clock: Clock) {
    this.#now = now;
    this.#clock = clock;
    for (const { type, id, versionId, lastUpdated, text } of resources) {
      const version: Current = {
        type,
        id,
        versionId,
        lastUpdated,
        bytes: Buffer.from(text),
        sequence: this.#sequence++,
      };
      this.#type(type).current.set(id, version);
      this.#versions.set(`${type}/${id}`, [version]);
    }
    for (const index of this.#types.values()) {
      index.byTime = [...index.current.values()].sort(byTime);
      index.indexed = new Map(index.current);
    }
  }

  #type(type: string) {
    let index = this.#types.get(type);
    if (!index) this.#types.set(type, (index = { current: new Map(), indexed: new Map(), byTime: [] }));
    return index;
  }

  types(): string[] {
    return [...this.#types.keys()].sort();
  }

  get(type: string, id: string): Current | undefined {
    return this.#types.get(type)?.current.get(id);
  }

  /** The resource as a search by id sees it. */
  indexed(type: string, id: string): Current | undefined {
    return this.#types.get(type)?.indexed.get(id);
  }

  /** Current resources by time, then id. Not to be changed. */
  byTime(type: string): readonly Current[] {
    return this.#types.get(type)?.byTime ?? [];
  }

  byID(type: string): readonly Current[] {
    const index = this.#types.get(type);
    if (!index) return [];
    return (index.byID ??= [...index.byTime].sort((a, b) => (a.id < b.id ? -1 : 1)));
  }

  /** All versions of one resource, oldest first. */
  versions(type: string, id: string): readonly Version[] {
    return this.#versions.get(`${type}/${id}`) ?? [];
  }

  /** All versions of a type, in the order in which they were written. */
  *history(type: string): Generator<Version> {
    for (const versions of this.#versions.values()) if (versions[0]?.type === type) yield* versions;
  }

  /** Creates or updates a resource. The server sets versionId and lastUpdated; the rest of the text stays as it is. */
  put(text: string): Current {
    const { type, id } = identity(text);
    const head = this.#head(type, id);
    const stamped = stamp(text.trim(), {
      versionId: head.versionId,
      lastUpdated: new Date(head.lastUpdated).toISOString(),
    });
    const version: Current = { ...head, bytes: Buffer.from(stamped) };
    this.#replace(version, version);
    return version;
  }

  /** @returns whether there was such a resource */
  delete(type: string, id: string): boolean {
    if (!this.get(type, id)) return false;
    this.#replace(this.#head(type, id), undefined);
    return true;
  }

  #head(type: string, id: string): Version {
    const newest = this.versions(type, id).at(-1);
    // a clock that stands still or goes back must not make a version older than the one before
    const lastUpdated = Math.max(this.#now(), newest?.lastUpdated ?? 0);
    const sequence = this.#sequence++;
    const versionId = this.uuidVersions
      ? uuidOf(sequence)
      : String((Number(newest?.versionId ?? 0) || this.versions(type, id).length) + 1);
    return { type, id, versionId, lastUpdated, sequence, ...(!newest && { isFirst: true }) };
  }

  #replace(version: Version, current: Current | undefined): void {
    const { type, id } = version;
    const index = this.#type(type);
    if (current) index.current.set(id, current);
    else index.current.delete(id);
    const versions = this.#versions.get(`${type}/${id}`);
    if (versions) versions.push(version);
    else this.#versions.set(`${type}/${id}`, [version]);
    if (this.lag === 0) {
      this.#reindex(index, id, current);
      return;
    }
    const show = () => {
      this.#waiting.delete(show);
      this.#reindex(index, id, current);
    };
    this.#waiting.set(show, this.#clock.after(this.lag, show));
  }

  /** Searches see all writes so far. */
  catchUp(): void {
    for (const [show, cancel] of [...this.#waiting]) {
      cancel();
      show();
    }
  }

  #reindex(index: TypeIndex, id: string, current: Current | undefined): void {
    const old = index.indexed.get(id);
    // a write before this one may have been waiting longer than this one (the lag was lowered)
    if (old && current && old.sequence > current.sequence) return;
    if (old) index.byTime.splice(lowerBound(index.byTime, old), 1);
    if (current) {
      index.byTime.splice(lowerBound(index.byTime, current), 0, current);
      index.indexed.set(id, current);
    } else index.indexed.delete(id);
    index.byID = undefined;
  }

  close(): void {
    for (const cancel of this.#waiting.values()) cancel();
  }

  /** Current resources as an export must hold them: the bytes without white space outside strings. */
  dump(type?: string): Map<string, Buffer> {
    const lines = new Map<string, Buffer>();
    for (const name of type ? [type] : this.types())
      for (const { id, bytes } of this.#type(name).current.values()) lines.set(`${name}/${id}`, lineOf(bytes));
    return lines;
  }
}

/** A UUID that is the same on each run, and tells nothing of its number. */
export const uuidOf = (number: number): string =>
  createHash("md5")
    .update(`version ${number}`)
    .digest("hex")
    .replace(/^(.{8})(.{4}).(.{3}).(.{3})(.{12})$/, "$1-$2-4$3-a$4-$5");

// Tests that write look at all lines before each write: made once for a version, they take a tenth of the time of such
// a test, not half of it.
const lines = new WeakMap<Buffer, Buffer>();
function lineOf(bytes: Buffer): Buffer {
  let line = lines.get(bytes);
  if (!line) lines.set(bytes, (line = Buffer.from(compact(bytes.toString()))));
  return line;
}

/** Index of the first item that is not before `key`. */
export function lowerBound(items: readonly Version[], key: { lastUpdated: number; id: string }): number {
  let [low, high] = [0, items.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (byTime(items[middle]!, key as Version) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** @throws Error when the text is no resource with an id */
export function identity(text: string): { type: string; id: string } {
  const found = new Map(members(text).map(({ name, start, end }) => [name, text.slice(start, end)]));
  const [type, id] = [found.get("resourceType"), found.get("id")].map(
    (token) => token && (JSON.parse(token) as unknown),
  );
  if (typeof type !== "string" || typeof id !== "string") throw new Error("a resource needs resourceType and id");
  return { type, id };
}
