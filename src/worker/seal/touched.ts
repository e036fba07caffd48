import type { Cohort, Plan, Shard } from "../../contracts.ts";
import type { SourceClient } from "../../fhir/client.ts";
import { isUnclear, patientsOf } from "../../fhir/compartment.ts";
import {
  type HistoryEnd,
  type HistoryQuery,
  type HistoryResource,
  readHistory,
  typeHistory,
} from "../../fhir/history.ts";
import { onceEach } from "../../fhir/links.ts";
import { readPage } from "../../fhir/reads.ts";
import { searchURL } from "../../fhir/search.ts";
import type { Page } from "../../scan/page.ts";
import { fingerprinter } from "../../sink/fingerprints.ts";
import { membersIn } from "../read/owner.ts";
import type { Work } from "../work.ts";

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

/** What is stamped less than this before transactionTime may be searchable only after it, by an index that lags more than settleSeconds. */
export const lateMs = 60_000;

const sinceOf = (plan: Plan): string => new Date(Date.parse(plan.transactionTime) + 1).toISOString();

/** Looks at what was written to a type since the plan's transactionTime: by `Type/_history` where the source has it, else by search.
 *  @param withHistory false: the source has refused the type's history before */
export async function lookAtTail(
  { source, task }: Work,
  plan: Plan,
  type: string,
  withHistory = hasHistory(task, plan),
): Promise<Tail> {
  const since = sinceOf(plan);
  if (withHistory) {
    const { touched, note } = touchedBy(plan);
    let isUntimed = false;
    const end = await readHistory(source, queryOf(plan, type, since), (entry) => {
      if (Number.isNaN(entry.at)) isUntimed = true;
      note(entry.id, entry.deleted, entry.version);
      return false;
    });
    if (tellsAll(end, isUntimed)) return { touched, history: true, since };
  }
  const { touched, note } = touchedBy(plan);
  if (plan.source.windows)
    await readTouched(source, searchURL({ type, from: since, count: plan.source.count }), type, note);
  return { touched, history: false, since };
}

/** Whether a history from a time on has told all that was written since. What has no time may be older where the source shows what is older, too. */
const tellsAll = (end: HistoryEnd, isUntimed: boolean) => end === "whole" || (end === "older" && !isUntimed);

const queryOf = (plan: Plan, type: string, since: string): HistoryQuery => ({
  link: typeHistory(type, since, plan.source.count),
  type,
  from: Date.parse(since),
});

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
  const isTheirs = (resource: HistoryResource) =>
    [...patientsOf(resource, source.base)].some((id) => places.has(id)) || isUnclear(resource, source.base);
  let isUntimed = false;
  const end = await readHistory(source, queryOf(plan, type, new Date(from - lateMs).toISOString()), (entry) => {
    const { id, at, deleted, version, resource } = entry;
    if (Number.isNaN(at)) isUntimed = true;
    else if (at >= from) note(id, deleted, version);
    const print = fingerprint(id);
    // newest first
    if (late.moves.has(print)) return false;
    late.moves.set(print, deleted ? Number.NaN : at);
    if (!deleted && !(members && resource && !isTheirs(resource))) late.there.set(print, { id, deleted, isNew: false });
    return false;
  });
  // what was seen of a history that broke off is no ground for anything, and without what was written shortly before, no later look is, either
  if (!tellsAll(end, isUntimed))
    return { tail: await lookAtTail(work, plan, type, false), late: { moves: new Map(), there: new Map() } };
  // a deletion without a time (HAPI) may be on either side: that is asked
  return { tail: isUntimed ? await lookAtTail(work, plan, type) : { touched, history: true, since }, late };
}

const hasHistory = ({ source: { history } }: Work["task"], { source: { typeHistory } }: Plan): boolean =>
  history && typeHistory;

function touchedBy({ key }: Plan): { touched: Tail["touched"]; note: Note } {
  const touched: Tail["touched"] = new Map();
  const fingerprint = fingerprinter(key);
  return {
    touched,
    note(id, deleted, versionId) {
      const print = fingerprint(id);
      // newest first: what stands there already is newer
      let newest = touched.get(print);
      if (!newest) touched.set(print, (newest = { id, deleted, isNew: false, versionId }));
      newest.isNew = versionId === "1" && !deleted;
    },
  };
}

type Note = (id: string, deleted: boolean, version: string | undefined) => void;

async function readTouched(source: SourceClient, first: string, type: string, note: Note): Promise<void> {
  const follow = onceEach(type);
  for (let link: string | undefined = first; link !== undefined; ) {
    follow(link);
    const { bytes, page }: { bytes: Buffer; page: Page } = await readPage(source, link);
    for (const { type: found, id, start, end } of page.entries) {
      if (found !== type) continue;
      const { meta } = JSON.parse(bytes.toString("utf8", start, end)) as { meta?: { versionId?: string } };
      note(id, false, meta?.versionId);
    }
    link = page.next === undefined ? undefined : source.resolve(page.next).href;
  }
}
