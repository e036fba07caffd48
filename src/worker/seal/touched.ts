import {
  type HistoryEnd,
  type HistoryQuery,
  type HistoryResource,
  readHistory,
  typeHistory,
} from "../../fhir/history.ts";
import { onceEach } from "../../fhir/links.ts";
import { probePage, type ReadPage, type RefusedPage } from "../../fhir/reads.ts";
import { searchURL } from "../../fhir/search.ts";
import { fingerprinter } from "../../sink/fingerprints.ts";
import { membersIn } from "../read/owner.ts";
import type { FingerprintHooks } from "../read/row-writer.ts";
import type { ExportRun } from "../run.ts";
import type { TypeClosing } from "./type-closing.ts";

/** A resource that was written to. */
export interface Touched {
  id: string;
  /** The oldest version that was seen of it is its first one: it did not exist before. */
  isNew: boolean;
}

/** What was written to at D (the millisecond behind transactionTime) or later. */
export interface Tail {
  /** by fingerprint */
  touched: Map<string, Touched>;
  /** how many of them exist */
  alive: number;
  /** It was read from a history, so it has the deletions, too. */
  history: boolean;
  /** The source refuses the search for what was written: nobody knows it. */
  unread?: true;
  /** D */
  since: string;
}

/** What was written shortly before D, or since, by fingerprint. Empty where the first look found no history. */
export interface LateWrites {
  /** The time of the newest version in milliseconds, NaN for a deletion. An index that lags shows such a row in the
   *  window of the version before, until it has caught up. Then the row leaves that window, although nothing has
   *  touched it since D. */
  mayMove: Map<string, number>;
  /** The resources among them that exist. Where the type is searched by members of the cohort: only those that are, or
   *  may be, in a member's compartment. */
  recentlyWritten: Map<string, Touched>;
}

/** A resource that is stamped less than this before D may be searchable only after it, by an index that lags more than
 *  settleSeconds. */
export const lateMs = 60_000;

/** The looks that the closing of a type takes at its tail, one per round. */
export class TailWatch {
  /** known from the first look on */
  late: LateWrites = { mayMove: new Map(), recentlyWritten: new Map() };
  readonly #closing: TypeClosing;
  /** What the seal's own readings have shown that is newer than D: without histories and windows nothing else tells
   *  it. */
  readonly #shown = new Map<string, Touched>();
  /** undefined before the first look */
  #withHistory: boolean | undefined;

  constructor(closing: TypeClosing) {
    this.#closing = closing;
  }

  async look(): Promise<Tail> {
    const { plan } = this.#closing;
    const tail =
      this.#withHistory === undefined ? await this.#first() : await readTail(this.#closing, this.#withHistory);
    if (!tail.history && !plan.source.windows) for (const [print, one] of this.#shown) tail.touched.set(print, one);
    return tail;
  }

  /** Takes rows that a reading of a shard shows outside of its window. */
  readonly noteOutside: NonNullable<FingerprintHooks["outside"]> = (print, table, row) => {
    if (Date.parse(table.lastUpdated(row) ?? "") < endOfTransaction(this.#closing)) return;
    this.#shown.set(print, { id: table.id(row), isNew: table.versionId(row) === "1" });
  };

  /** Looks at what was written shortly before D as well: all of it is in one history. */
  async #first(): Promise<Tail> {
    const closing = this.#closing;
    const found = hasHistory(closing) ? await readLateHistory(closing) : undefined;
    // Without what was written shortly before D, no later look can be complete: the type has no history for this
    // closing.
    this.#withHistory = found !== undefined;
    if (!found) return readTail(closing, false);
    this.late = found.late;
    // A deletion without a time (HAPI) may be on either side of D, so D itself is asked for.
    const tail = found.isUntimed ? await readTail(closing, true) : found.tail;
    this.#withHistory = tail.history;
    return tail;
  }
}

/** D in milliseconds. */
const endOfTransaction = ({ plan }: ExportRun): number => Date.parse(plan.transactionTime) + 1;

const hasHistory = ({ work, plan }: ExportRun): boolean => work.task.source.history && plan.source.typeHistory;

/** Reads what was written to a type at D or later: from its history, or else by search. */
async function readTail(closing: TypeClosing, withHistory: boolean): Promise<Tail> {
  const { work, plan, type } = closing;
  const end = endOfTransaction(closing);
  const since = new Date(end).toISOString();
  if (withHistory) {
    const notes = new TouchedNotes(closing);
    let isUntimed = false;
    const ended = await readHistory(work.source, historyFrom(closing, end), ({ id, at, deleted, version }) => {
      if (Number.isNaN(at)) isUntimed = true;
      notes.add(id, deleted ? "deleted" : { version });
      return false;
    });
    if (tellsAll(ended, isUntimed)) return { touched: notes.touched, alive: notes.alive, history: true, since };
    work.log.warn({ type, history: ended }, "the history of the type cannot be used; doing without it");
  }
  const notes = new TouchedNotes(closing);
  const isRead = !plan.source.windows || (await searchTail(closing, since, notes));
  const { touched, alive } = notes;
  return { touched, alive, history: false, since, ...(!isRead && { unread: true as const }) };
}

const historyFrom = ({ plan, type }: TypeClosing, from: number): HistoryQuery => ({
  link: typeHistory(type, from, plan.source.count),
  type,
  from,
});

/** Whether a history has told all that was written from a time on, and nothing else. What has no time may be older than
 *  that where the source shows what is older, too. */
const tellsAll = (ended: HistoryEnd, isUntimed: boolean) => ended === "whole" || (ended === "older" && !isUntimed);

/** @returns undefined where the source has no history of the type that can be used */
async function readLateHistory(
  closing: TypeClosing,
): Promise<{ tail: Tail; late: LateWrites; isUntimed: boolean } | undefined> {
  const { work, plan, whole, shards } = closing;
  const end = endOfTransaction(closing);
  const notes = new TouchedNotes(closing);
  const fingerprint = fingerprinter(plan.key);
  const mayBeTheirs = shards[0]!.shard.members ? membersOnly(closing) : () => true;
  const late: LateWrites = { mayMove: new Map(), recentlyWritten: new Map() };
  let isUntimed = false;
  const ended = await readHistory(work.source, historyFrom(closing, end - lateMs), (entry) => {
    const { id, at, deleted, resource } = entry;
    if (Number.isNaN(at)) isUntimed = true;
    else if (at >= end) notes.add(id, deleted ? "deleted" : { version: entry.version });
    const print = fingerprint(id);
    // The history is newest first: of each resource the first entry counts.
    if (late.mayMove.has(print)) return false;
    late.mayMove.set(print, deleted ? Number.NaN : at);
    if (resource && mayBeTheirs(resource)) late.recentlyWritten.set(print, { id, isNew: false });
    return false;
  });
  if (!tellsAll(ended, isUntimed)) {
    work.log.warn({ type: whole.type, history: ended }, "the history of the type cannot be used; doing without it");
    return undefined;
  }
  return {
    tail: { touched: notes.touched, alive: notes.alive, history: true, since: new Date(end).toISOString() },
    late,
    isUntimed,
  };
}

/** Whether a resource is, or may be, in the compartment of a member of the cohort. */
function membersOnly({ cohort, compartment }: ExportRun): (resource: HistoryResource) => boolean {
  const places = cohort && membersIn(cohort).places;
  return (resource) =>
    [...compartment.patientsOf(resource)].some((id) => places?.has(id)) || compartment.unclearOf(resource).length > 0;
}

/** Collects touched resources from what shows them newest first. */
class TouchedNotes {
  readonly touched: Tail["touched"] = new Map();
  /** how many of them exist */
  alive = 0;
  readonly #fingerprint: (id: string) => string;

  constructor({ plan }: ExportRun) {
    this.#fingerprint = fingerprinter(plan.key);
  }

  add(id: string, written: { version: string | undefined } | "deleted"): void {
    const print = this.#fingerprint(id);
    // What is added first of a resource is its newest version, and what is added last is its oldest.
    if (written !== "deleted" && !this.touched.has(print)) this.alive++;
    this.touched.set(print, { id, isNew: written !== "deleted" && written.version === "1" });
  }
}

/** @returns false where the source refuses the search, or a page of it cannot be read */
async function searchTail({ work, plan, type }: TypeClosing, since: string, notes: TouchedNotes): Promise<boolean> {
  const { source } = work;
  const follow = onceEach();
  const first = searchURL({ type, from: since, count: plan.source.count });
  for (let link: string | undefined = first; link !== undefined; ) {
    if (!follow(link)) return false;
    const answer: ReadPage | RefusedPage = await probePage(source, link, { type });
    if (!("page" in answer)) {
      work.log.warn({ type, status: answer.status }, "the source refuses to show what was written while it was read");
      return false;
    }
    const { bytes, page } = answer;
    for (const { type: found, id, start, end } of page.entries) {
      if (found !== type) continue;
      const { meta } = JSON.parse(bytes.toString("utf8", start, end)) as { meta?: { versionId?: string } };
      notes.add(id, { version: meta?.versionId });
    }
    link = source.next(link, page);
  }
  return true;
}
