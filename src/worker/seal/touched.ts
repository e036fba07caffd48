import type { Cohort, Plan, Shard } from "../../contracts.ts";
import { transient } from "../../failure.ts";
import type { SourceClient } from "../../fhir/client.ts";
import { isUnclear, patientsOf } from "../../fhir/compartment.ts";
import { onceEach } from "../../fhir/links.ts";
import { readPage } from "../../fhir/reads.ts";
import { searchURL } from "../../fhir/search.ts";
import type { Entry, Page } from "../../scan/page.ts";
import { scanPage } from "../../scan/plain.ts";
import { fingerprinter } from "../../sink/fingerprints.ts";
import { membersIn } from "../read/owner.ts";
import type { Work } from "../work.ts";

export interface Version {
  bytes: Buffer;
  entry: Entry;
}

export interface Touched {
  id: string;
  deleted: boolean;
  /** it did not exist before: the oldest of what was seen of it is its first version */
  isNew: boolean;
  versionId?: string | undefined;
}

/** What was created, updated or deleted at `since` or later. Without history deletions are not seen. */
export interface Tail {
  /** by fingerprint; `versionId` of what is there now, where it was read by search */
  touched: Map<string, Touched>;
  history: boolean;
  since: string;
}

/** What was written shortly before transactionTime, or since, by fingerprint; nothing without history. */
export interface Late {
  /** The time of its newest version in milliseconds, NaN for a deletion. An index that lags shows such a row where it was before until it catches up, and then
   *  it leaves that window, although nothing has touched it since. */
  moves: Map<string, number>;
  /** what of it is there. Where the type is searched by members of the cohort: only what is, or may be, theirs */
  there: Map<string, Touched>;
}

interface HistoryEntry {
  fullUrl?: string;
  resource?: Record<string, unknown> & { id?: string; meta?: { lastUpdated?: string; versionId?: string } };
  request?: { method?: string; url?: string };
  response?: { status?: string; lastModified?: string };
}
interface HistoryBundle {
  entry?: HistoryEntry[];
  link?: { relation?: string; url?: string }[];
}

const refused = [400, 403, 404, 405, 410, 501];

/** What is stamped less than this before transactionTime may be searchable only after it, by an index that lags more than settleSeconds. */
export const lateMs = 60_000;

const sinceOf = (plan: Plan): string => new Date(Date.parse(plan.transactionTime) + 1).toISOString();

/** Looks at what was written to a type since the plan's transactionTime: by `Type/_history` where the source has it, else by search. */
export async function lookAtTail({ source, task }: Work, plan: Plan, type: string): Promise<Tail> {
  const since = sinceOf(plan);
  const { touched, note } = touchedBy(plan);
  const history = hasHistory(task, plan) && (await readHistory(source, type, since, plan.source.count, note));
  if (!history && plan.source.windows)
    await readTouched(source, searchURL({ type, from: since, count: plan.source.count }), type, note);
  return { touched, history, since };
}

/** The first look at a type: at its tail, and at what was written shortly before. All of it is in one history. */
export async function lookAtLate(
  work: Work,
  plan: Plan,
  { type, members }: Shard,
  cohort: Cohort | undefined,
): Promise<{ tail: Tail; late: Late }> {
  const { source, task } = work;
  const late: Late = { moves: new Map(), there: new Map() };
  if (!hasHistory(task, plan)) return { tail: await lookAtTail(work, plan, type), late };
  const since = sinceOf(plan);
  const from = Date.parse(since);
  const { touched, note } = touchedBy(plan);
  const fingerprint = fingerprinter(plan.key);
  const { places } = membersIn(cohort ?? { v: 1, uid: "", patients: [], groups: [] });
  const isTheirs = (resource: Resource) =>
    [...patientsOf(resource, source.base)].some((id) => places.has(id)) || isUnclear(resource, source.base);
  let isUntimed = false;
  const history = await readHistory(
    source,
    type,
    new Date(from - lateMs).toISOString(),
    plan.source.count,
    (id, deleted, version) => {
      const { resource, at } = version;
      if (Number.isNaN(at)) isUntimed = true;
      else if (at >= from) note(id, deleted, version);
      const print = fingerprint(id);
      // newest first
      if (late.moves.has(print)) return;
      late.moves.set(print, deleted ? Number.NaN : at);
      if (!deleted && !(members && resource && !isTheirs(resource)))
        late.there.set(print, { id, deleted, isNew: false });
    },
  );
  // what was seen of a history that broke off is no ground for anything
  if (!history) return { tail: await lookAtTail(work, plan, type), late: { moves: new Map(), there: new Map() } };
  // a deletion without a time (HAPI) may be on either side: that is asked
  return { tail: isUntimed ? await lookAtTail(work, plan, type) : { touched, history, since }, late };
}

const hasHistory = ({ source: { history } }: Work["task"], { source: { typeHistory } }: Plan): boolean =>
  history && typeHistory;

function touchedBy({ key }: Plan): { touched: Tail["touched"]; note: Note } {
  const touched: Tail["touched"] = new Map();
  const fingerprint = fingerprinter(key);
  return {
    touched,
    note(id, deleted, { versionId }) {
      const print = fingerprint(id);
      // newest first: what stands there already is newer
      let newest = touched.get(print);
      if (!newest) touched.set(print, (newest = { id, deleted, isNew: false, versionId }));
      newest.isNew = versionId === "1" && !deleted;
    },
  };
}

type Resource = NonNullable<HistoryEntry["resource"]>;
/** @param version `at`: milliseconds, NaN where it says none */
type Note = (
  id: string,
  deleted: boolean,
  version: { versionId?: string | undefined; resource?: Resource | undefined; at: number },
) => void;

/** @returns false where the source has no history of the type */
async function readHistory(
  source: SourceClient,
  type: string,
  since: string,
  count: number,
  note: Note,
): Promise<boolean> {
  const from = Date.parse(since);
  const follow = onceEach(type);
  for (
    let link: string | undefined = `${type}/_history?_since=${encodeURIComponent(since)}&_count=${count}`;
    link !== undefined;
  ) {
    follow(link);
    const bundle: HistoryBundle | undefined = await source.get(
      link,
      ({ status, body }) => (status >= 400 ? undefined : parse(body)),
      {
        accept: refused,
      },
    );
    if (!bundle) return false;
    for (const { fullUrl, resource, request, response } of bundle.entry ?? []) {
      const id = resource?.id ?? idIn(request?.url) ?? idIn(fullUrl);
      const at = Date.parse(resource?.meta?.lastUpdated ?? response?.lastModified ?? "");
      if (id === undefined || at < from) continue;
      note(id, resource === undefined || request?.method === "DELETE", {
        versionId: resource?.meta?.versionId,
        resource,
        at,
      });
    }
    const next: string | undefined = bundle.link?.find(({ relation }) => relation === "next")?.url;
    link = next === undefined ? undefined : source.resolve(next).href;
  }
  return true;
}

async function readTouched(source: SourceClient, first: string, type: string, note: Note): Promise<void> {
  const follow = onceEach(type);
  for (let link: string | undefined = first; link !== undefined; ) {
    follow(link);
    const { bytes, page }: { bytes: Buffer; page: Page } = await readPage(source, link);
    for (const { type: found, id, start, end } of page.entries) {
      if (found !== type) continue;
      const { meta } = JSON.parse(bytes.toString("utf8", start, end)) as { meta?: { versionId?: string } };
      note(id, false, { versionId: meta?.versionId, at: Number.NaN });
    }
    link = page.next === undefined ? undefined : source.resolve(page.next).href;
  }
}

/** A resource as it is now; "none" when it is gone. */
export function newestVersion(source: SourceClient, type: string, id: string): Promise<Version | "none" | undefined> {
  return source.get(
    `${type}/${encodeURIComponent(id)}`,
    ({ status, body }) => {
      if (status >= 400) return status === 404 || status === 410 ? "none" : undefined;
      const page = Buffer.concat([
        Buffer.from('{"resourceType":"Bundle","entry":[{"resource":'),
        body,
        Buffer.from("}]}"),
      ]);
      const [entry] = scanPage(page).entries;
      return entry && { bytes: page, entry };
    },
    { accept: refused },
  );
}

/** A resource as it was right before `before`, from its own history: its bytes; "none" when it did not exist then; undefined when that cannot be
 *  told. Of a resource that is known to have been written to, or to be there, at `before` or later: so what is newest of it is later, too. */
export async function versionBefore(
  source: SourceClient,
  type: string,
  id: string,
  before: string,
): Promise<Version | "none" | undefined> {
  const at = Date.parse(before);
  let oldest: HistoryEntry | undefined;
  // some servers (HAPI) give a deletion no time: then it is between its neighbours
  let deletedBetween = false;
  const follow = onceEach(type);
  for (let link: string | undefined = versionsOf(type, id); link !== undefined; ) {
    follow(link);
    const answer: { bytes: Buffer; page: Page } | { status: number } = await readPage(source, link, refused);
    if ("status" in answer) return undefined;
    const { bytes, page }: { bytes: Buffer; page: Page } = answer;
    const versions = page.entries.values();
    for (const told of parse(bytes).entry ?? []) {
      const { resource, request, response } = told;
      const isNewest = oldest === undefined;
      oldest = told;
      if (!resource || request?.method === "DELETE") {
        const time = Date.parse(response?.lastModified ?? "");
        if (time < at) return "none";
        deletedBetween ||= Number.isNaN(time) && !isNewest;
        continue;
      }
      const entry = versions.next().value;
      if (entry?.id !== id || entry.lastUpdated === undefined) return undefined;
      if (Date.parse(entry.lastUpdated) < at) return deletedBetween ? undefined : { bytes, entry };
      deletedBetween = false;
    }
    link = page.next === undefined ? undefined : source.resolve(page.next).href;
  }
  return oldest && mayBeFirst(oldest) ? "none" : undefined;
}

/** Whether nothing need be older: histories may be purged, or end too early. */
function mayBeFirst({ resource, request, response }: HistoryEntry): boolean {
  if (!resource) return false;
  if (request?.method === "POST" || response?.status?.startsWith("201")) return true;
  const version = Number(resource.meta?.versionId);
  return !(version > 1);
}

/** The first page of a resource's versions, newest first. With `_since`: without, HAPI shows only as many as it counted once, and keeps the count for minutes
 *  (HistoryCountModeEnum.CACHED_ONLY_WITHOUT_OFFSET, its default). */
export const versionsOf = (type: string, id: string) =>
  `${type}/${encodeURIComponent(id)}/_history?_since=${encodeURIComponent("1970-01-01T00:00:00Z")}&_count=50`;

function parse(body: Buffer): HistoryBundle {
  try {
    return JSON.parse(body.toString()) as HistoryBundle;
  } catch (error) {
    throw transient("SourceInconsistent", "a page of the source's history is broken", error);
  }
}

const idIn = (url: string | undefined) =>
  /(?:^|\/)[A-Z][A-Za-z]+\/([A-Za-z0-9\-.]{1,64})(?:\/_history\/[^/]*)?$/.exec(url ?? "")?.[1];
