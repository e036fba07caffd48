import { transient } from "../failure.ts";
import { type Entry, ScanError } from "../scan/page.ts";
import { scanPage } from "../scan/plain.ts";
import type { SourceClient } from "./client.ts";
import { onceEach } from "./links.ts";
import { PageFailure } from "./retries.ts";

/** A resource as its server keeps it, parsed. */
export type HistoryResource = Record<string, unknown> & {
  resourceType?: string;
  id?: string;
  meta?: { lastUpdated?: string; versionId?: string };
};

/** A version of a resource, or its deletion, as an entry of a history tells it. */
export interface HistoryEntry {
  id: string;
  /** When it was written, in milliseconds. NaN: the entry does not say (HAPI gives a deletion no time). */
  at: number;
  /** The last millisecond that this time may mean: one without a fraction may be any of its second. */
  atMost: number;
  deleted: boolean;
  /** `meta.versionId` of a version; of a deletion the ETag of its response, else the versionId of what the entry
   *  holds. */
  version: string | undefined;
  /** undefined for a deletion, whatever its entry holds */
  resource: HistoryResource | undefined;
  /** The entry says that this write created the resource: it was a POST, or was answered with 201. */
  isCreation: boolean;
  /** the page that the entry is on, and its place among those of the page's entries that hold a resource */
  page: Buffer;
  place: number;
}

/** The bytes of a resource, which lie in `bytes` from `entry.start` to `entry.end`. */
export interface Version {
  bytes: Buffer;
  entry: Entry;
}

export interface HistoryQuery {
  /** URL of the first page, relative to the source's base */
  link: string;
  type: string;
  /** Only what was written at this time (milliseconds) or later is wanted. */
  from: number;
  /** the resource, if it is the history of a single one: an entry that names no id is of this resource */
  id?: string;
}

/** How the reading of a history ended:
 *  - `whole`: its last page was read.
 *  - `older`: it shows something older than HistoryQuery.from, so the server ignores `_since`. All that is newer was
 *    seen.
 *  - `stopped`: `see` has answered true.
 *  - `refused`: the source has no such history. This may also be the answer to a later page.
 *  - `unordered`: it is not newest first, so what comes first is not the newest.
 *  What was seen of a history that was refused or is unordered proves nothing, and must not be used. */
export type HistoryEnd = "whole" | "older" | "stopped" | "refused" | "unordered";

/** Reads a history page by page, newest first (FHIR R4, http.html#history: "sorted with oldest versions last"). This is
 *  the only place that follows histories.
 *
 *  Each page is checked as a whole before `see` meets any of its entries:
 *  1. It must be a Bundle of type `history`. Some servers answer 200 with an OperationOutcome, or take `_history` for a
 *     search. An answer without entries would be read as "nothing was written", so all other JSON counts as a refusal,
 *     like a status by which the source refuses it (refusals.ts), or one that stays. It does not end the export: what
 *     a history would tell can be searched for, or is told as a doubt.
 *  2. Its entries must be newest first. Under writes a page may repeat the end of the page before, so only the entries
 *     of one page are compared with each other; and with the page before as long as no two times have differed.
 *
 *  Entries of another type, and entries that do not say which resource they are of, are passed over. An entry without a
 *  time is shown, and takes no part in the order.
 *
 *  @param see takes an entry; it answers true to stop
 *  @throws waiting when the source answers nothing */
export async function readHistory(
  source: SourceClient,
  query: HistoryQuery,
  see: (entry: HistoryEntry) => boolean,
): Promise<HistoryEnd> {
  const follow = onceEach();
  const order = new NewestFirst();
  let isOlder = false;
  for (let link: string | undefined = query.link; link !== undefined; ) {
    // A history that never ends tells nothing, like one that is refused.
    if (!follow(link)) return "refused";
    const page: HistoryPage | undefined = await orRefused(
      source.get(link, ({ isRefusal, body }) => (isRefusal ? undefined : parsePage(body)), {
        purpose: "probe",
        type: query.type,
      }),
    );
    if (!page) return "refused";
    const entries = historyEntries(page, query);
    if (!order.holds(entries)) return "unordered";
    for (const entry of entries) {
      if (entry.at < query.from) {
        // in a history that is oldest first, all that is wanted would come behind it
        if (order.isKnown) return "older";
        isOlder = true;
      } else if (see(entry)) return "stopped";
    }
    const { bundle }: HistoryPage = page;
    const linkOf = (relation: string) => bundle.link?.find((sent) => sent?.relation === relation)?.url;
    link = source.next(link, { next: linkOf("next"), self: linkOf("self") });
  }
  return isOlder ? "older" : "whole";
}

/** The history of a type from `since` on, as a link. */
export const typeHistory = (type: string, since: number | string, count: number): string =>
  `${type}/_history?_since=${encodeURIComponent(new Date(since).toISOString())}&_count=${count}`;

/** The history of one resource, as a link. With `_since`: without it, HAPI shows only as many versions as it counted
 *  once, and keeps the count for minutes (HistoryCountModeEnum.CACHED_ONLY_WITHOUT_OFFSET, its default). */
export const instanceHistory = (type: string, id: string): string =>
  `${type}/${encodeURIComponent(id)}/_history?_since=${encodeURIComponent("1970-01-01T00:00:00Z")}&_count=50`;

/** A resource as it was right before `before`, from its own history. The resource must be known to have been written
 *  to, or to exist, at `before` or later: a deletion without a time that comes first is then later, too.
 *  @returns "none" when it did not exist then; undefined when that cannot be told: there is no such history, it ends
 *  too early, it is not newest first, or a deletion without a time may have been before or after `before` */
export async function versionBefore(
  source: SourceClient,
  type: string,
  id: string,
  before: string,
): Promise<Version | "none" | undefined> {
  const till = Date.parse(before);
  let found: Version | "none" | undefined;
  let oldest: HistoryEntry | undefined;
  // such a deletion lies between its neighbours
  let deletedBetween = false;
  const end = await readHistory(
    source,
    { link: instanceHistory(type, id), type, id, from: Number.NEGATIVE_INFINITY },
    (entry) => {
      if (entry.id !== id) return true;
      const isNewest = oldest === undefined;
      oldest = entry;
      if (entry.deleted) {
        if (entry.at < till) found = "none";
        deletedBetween ||= Number.isNaN(entry.at) && !isNewest;
        return found !== undefined;
      }
      if (entry.resource?.meta?.lastUpdated === undefined) return true;
      if (entry.at < till) {
        found = deletedBetween ? undefined : versionOnPage(entry);
        return true;
      }
      deletedBetween = false;
      return false;
    },
  );
  if (end === "stopped") return found;
  return end === "whole" && oldest && isFirst(oldest) ? "none" : undefined;
}

/** A resource as it is now; "none" when it is gone; undefined when the source does not show it. */
export function newestVersion(source: SourceClient, type: string, id: string): Promise<Version | "none" | undefined> {
  return orRefused(
    source.get(
      `${type}/${encodeURIComponent(id)}`,
      ({ status, isRefusal, body }) => {
        if (isRefusal) return status === 404 || status === 410 ? "none" : undefined;
        const bytes = Buffer.concat([bundleStart, body, bundleEnd]);
        const entry = onlyEntry(bytes);
        return entry?.type === type && entry.id === id ? { bytes, entry } : undefined;
      },
      { purpose: "resource" },
    ),
  );
}

/** undefined where the request was given up, as the source answers others */
async function orRefused<T>(answer: Promise<T | undefined>): Promise<T | undefined> {
  try {
    return await answer;
  } catch (error) {
    if (error instanceof PageFailure) return undefined;
    throw error;
  }
}

/** @throws transient SourceInconsistent when the answer to a read is not JSON; it is then asked for again */
function onlyEntry(bundle: Buffer): Entry | undefined {
  try {
    return scanPage(bundle).entries[0];
  } catch (error) {
    if (!(error instanceof ScanError)) throw error;
    throw transient("SourceInconsistent", `a resource of the source is broken: ${error.message}`, error);
  }
}

const bundleStart = Buffer.from('{"resourceType":"Bundle","entry":[{"resource":');
const bundleEnd = Buffer.from("}]}");

/** The Bundle around a single resource, for what reads pages. */
export const bundleOf = ({ bytes, entry }: Version): Buffer =>
  Buffer.concat([bundleStart, bytes.subarray(entry.start, entry.end), bundleEnd]);

/** undefined: JSON.parse could read the page, and the scanner cannot (it is not UTF-8). */
function versionOnPage({ page, place }: HistoryEntry): Version | undefined {
  try {
    const entry = scanPage(page).entries[place];
    return entry && { bytes: page, entry };
  } catch (error) {
    if (error instanceof ScanError) return undefined;
    throw error;
  }
}

/** Whether no older version can have existed: histories may be purged, or end too early. A versionId that is not a
 *  number tells no order (UUIDs). */
function isFirst({ deleted, isCreation, version = "" }: HistoryEntry): boolean {
  return !deleted && (isCreation || (/^\d+$/.test(version) && Number(version) <= 1));
}

interface SentEntry {
  fullUrl?: string;
  resource?: HistoryResource;
  request?: { method?: string; url?: string };
  response?: { status?: string; lastModified?: string; etag?: string };
}
interface HistoryBundle {
  resourceType?: string;
  type?: string;
  entry?: (SentEntry | null)[];
  link?: ({ relation?: string; url?: string } | null)[];
}

interface HistoryPage {
  bytes: Buffer;
  bundle: HistoryBundle;
}

/** undefined: it is JSON, but no history.
 *  @throws transient SourceInconsistent when it is not JSON; the page is then asked for again */
function parsePage(bytes: Buffer): HistoryPage | undefined {
  let bundle: HistoryBundle | null;
  try {
    bundle = JSON.parse(bytes.toString()) as HistoryBundle | null;
  } catch (error) {
    throw transient("SourceInconsistent", "a page of the source's history is broken", error);
  }
  if (bundle?.resourceType !== "Bundle" || bundle.type !== "history") return undefined;
  return Array.isArray(bundle.entry ?? []) && Array.isArray(bundle.link ?? []) ? { bytes, bundle } : undefined;
}

function historyEntries({ bytes, bundle }: HistoryPage, query: HistoryQuery): HistoryEntry[] {
  const entries: HistoryEntry[] = [];
  let place = -1;
  for (const sent of bundle.entry ?? []) {
    if (typeof sent?.resource === "object" && sent.resource !== null) place++;
    const entry = sent && readEntry(sent, query);
    if (entry) entries.push({ ...entry, page: bytes, place });
  }
  return entries;
}

/** undefined: the entry is of another type, or nobody knows of which resource it is. */
function readEntry(
  { fullUrl, resource, request, response }: SentEntry,
  { type, id: own }: HistoryQuery,
): Omit<HistoryEntry, "page" | "place"> | undefined {
  if (resource && resource.resourceType !== type) return undefined;
  const id = resource?.id ?? idIn(request?.url, type) ?? idIn(fullUrl, type) ?? own;
  if (typeof id !== "string" || id === "") return undefined;
  // Microsoft's server leaves a remnant of the resource in the entry of its deletion
  if (!resource || request?.method === "DELETE")
    return {
      id,
      // the remnant's own time may be that of the version before
      ...timesOf(response?.lastModified),
      deleted: true,
      version: response?.etag ?? resource?.meta?.versionId,
      resource: undefined,
      isCreation: false,
    };
  return {
    id,
    ...timesOf(resource.meta?.lastUpdated ?? response?.lastModified),
    deleted: false,
    version: resource.meta?.versionId,
    resource,
    isCreation: request?.method === "POST" || response?.status?.startsWith("201") === true,
  };
}

/** @param instant RFC 3339, as the source has sent it */
function timesOf(instant = ""): Pick<HistoryEntry, "at" | "atMost"> {
  const at = Date.parse(instant);
  return { at, atMost: /:\d\d\.\d/.test(instant) ? at : at + 999 };
}

/** The id in `Type/id`, alone or behind a base URL. */
function idIn(url: string | undefined, type: string): string | undefined {
  const [, found, id] = /(?:^|\/)([A-Z][A-Za-z]+)\/([^/?#]+)(?:\/_history\/[^/]*)?$/.exec(url ?? "") ?? [];
  return found === type ? id : undefined;
}

/** Checks the order of a history's entries, page by page. */
class NewestFirst {
  /** Two times have differed: the history is known to be newest first. */
  isKnown = false;
  #before = Number.POSITIVE_INFINITY;

  /** @returns false when an entry is newer than the one before it */
  holds(page: readonly HistoryEntry[]): boolean {
    if (this.isKnown) this.#before = Number.POSITIVE_INFINITY;
    for (const { at, atMost } of page) {
      if (Number.isNaN(at)) continue;
      if (at > this.#before) return false;
      if (atMost < this.#before && this.#before !== Number.POSITIVE_INFINITY) this.isKnown = true;
      this.#before = atMost;
    }
    return true;
  }
}
