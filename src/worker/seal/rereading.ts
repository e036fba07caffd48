import type { Plan } from "../../contracts.ts";
import { isProven } from "../read/next-reading.ts";
import type { ShardRead } from "../read/search.ts";
import type { SearchClosing } from "./type-closing.ts";

// What follows from the readings of one search while its type is closed. Pure but for the search that is noted.

type How = ShardRead["how"];

/** How a search is read the next time: in parts where it does not show all that it holds; from its other end, first,
 *  where its counts say nothing.
 *  @param count what the source counts in it right now */
export function howToRead(search: SearchClosing, count: number | undefined, source: Plan["source"]): How {
  if (search.cutOff && source.windows) return "inParts";
  const isUncounted = count === undefined || search.refuted === true;
  if (!isUncounted || search.silent > 0) return undefined;
  if (source.sort) return "backwards";
  return source.windows ? "inParts" : undefined;
}

/** A reading of a search. */
export interface Reading {
  how: How;
  /** how many different resources it has shown */
  shown: number;
  /** How many resources it must have shown at least: those that are known of the shard and were not written to since.
   *  Undefined where that is not known, because the shard has other searches. */
  least: number | undefined;
  /** how many of the resources that it has shown are of the shard */
  inside: number | undefined;
  /** how many the source has counted right before it */
  counted: number | undefined;
  /** It has shown resources that no reading of the shard had shown before. */
  foundNew: boolean;
  /** The count is of a window that ends before D: nothing comes into it. */
  isInWindow: boolean;
  /** how many readings in a row must show nothing new where nothing is counted */
  silences: number;
}

/** Notes what a reading tells of a search:
 *  1. It has shown more than was counted: the source's counts are no evidence.
 *  2. It has shown fewer than were counted, or not all that is known and was not written to, or began at the other end
 *     and showed something new although nothing was written: the source does not show all of the search in one
 *     reading.
 *  3. Such a search cannot be proven by readings that end early, only by one in parts. Where that shows nothing new,
 *     and yet not all, no other reading will.
 *  4. Otherwise the reading may be a proof (read/next-reading.ts). Where nothing is counted, readings agree only if
 *     they do not end at the same place: one must begin at the other end, or be in parts. */
export function noteReading(search: SearchClosing, source: Plan["source"], reading: Reading): void {
  const { how, shown, counted, foundNew, isInWindow, silences } = reading;
  const { least, inside = shown } = reading;
  search.shown = shown;
  if (counted === undefined) delete search.counted;
  else search.counted = counted;
  if (counted !== undefined && shown > counted && isInWindow) search.refuted = true;
  const known = search.refuted ? undefined : counted;
  const isShort = known === undefined ? least !== undefined && inside < least : shown < known;
  // Under writes, pages by offset skip some: then what is known, and stays, tells whether the search is cut off.
  const hasOtherEnd = how === "backwards" && foundNew && (least === undefined || silences === 1);
  if (isShort || hasOtherEnd) search.cutOff = true;
  const isInParts = how === "inParts";
  const canAgree = isInParts || (!search.cutOff && source.sort);
  search.silent = foundNew || !canAgree ? 0 : search.silent + 1;
  const canShowMore = source.windows && !isInParts;
  if (!foundNew && !canShowMore && (search.cutOff || !canAgree)) search.isSpent = true;
  if (!isProven({ counted: known, shown, silence: { had: search.silent, wanted: silences } })) return;
  search.proof = known === undefined ? "agreed" : "counted";
}
