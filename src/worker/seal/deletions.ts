import type { Cohort } from "../../cohort.ts";
import type { Plan, Task } from "../../contracts.ts";
import type { SourceClient } from "../../fhir/client.ts";
import type { PatientCompartment } from "../../fhir/compartment.ts";
import {
  type HistoryEntry,
  type HistoryQuery,
  type HistoryResource,
  instanceHistory,
  readHistory,
  typeHistory,
} from "../../fhir/history.ts";
import { IdSet } from "../ids.ts";
import { eachParallel } from "../parallel.ts";
import type { Work } from "../work.ts";

/** Whether the deletion of a resource is for the export. undefined: that depends on `before`, its last version,
 *  which was not given; or its last version does not tell. */
type IsListed = (id: string, before?: HistoryResource) => boolean | undefined;

/** The deletions of a type. */
export interface Deletions {
  /** sorted, each once */
  ids: string[];
  /** What the user should know. These are no doubts: the output is exact without them. */
  notices: string[];
}

/** What the deletions of a type are read with. */
interface DeletionsRun {
  work: Pick<Work, "source" | "task">;
  plan: Pick<Plan, "source">;
}

interface Deletion {
  /** It is known to be older than the end of the period. */
  timed: boolean;
  /** as the history gives it: HistoryEntry.version */
  version: string | undefined;
  /** whether its last version is listed, if the history of the type has shown it; "unclear" where nobody can tell */
  listed?: boolean | "unclear";
}

/** Reads which resources of a type were deleted in [since, till) and did not come back before `till`, for the
 *  manifest's `deleted` (Bulk Data IG: with `_since`).
 *  1. Read `Type/_history` since `since`, newest first, and keep only ids.
 *  2. Where the source gives deletions no time (HAPI), read the history since `till` after it: a deletion that is in
 *  both is too new.
 *  3. Keep those that the export's level lists. At Patient and Group level that follows from the last version. What
 *  cannot be told is not listed: a client would remove a resource that still exists, or learn of another patient's
 *  resources. A notice says how many.
 *  @param isListed of `listedAt` */
export async function readDeleted(
  { work: { source, task }, plan }: DeletionsRun,
  type: string,
  { since, till }: { since: string; till: string },
  isListed: IsListed,
): Promise<Deletions> {
  const nothing = (why: string): Deletions => ({ ids: [], notices: [`Deletions of ${type} cannot be told: ${why}.`] });
  if (!task.source.history) return nothing("spec.history of the FhirSource is None");
  if (!plan.source.typeHistory) return nothing("the source has no history of types");
  const { count, instanceHistory: hasInstanceHistory } = plan.source;
  const historyFrom = (from: string) => ({ link: typeHistory(type, from, count), type, from: Date.parse(from) });
  const end = Date.parse(till);

  const found = await findDeleted(source, historyFrom(since), end, isListed);
  if (found.ended === "refused") return nothing("the source refuses the history of this type");
  if (found.ended === "unordered") return nothing("the source's history does not begin with what is newest");
  const { deleted } = found;
  const unclear = await dropTooNew(source, historyFrom(till), deleted);
  const listed = await eachParallel([...deleted], async ([id, deletion]) => {
    const known = isListed(id) ?? deletion.listed;
    if (known === "unclear") return undefined;
    if (known !== undefined) return known;
    const before = hasInstanceHistory ? await lastVersion(source, type, id, end) : undefined;
    return before && isListed(id, before);
  });
  const ids = [...deleted.keys()].filter((_, index) => listed[index] === true).sort();
  const isFiltered = task.export.typeFilters?.some((filter) => filter.startsWith(`${type}?`)) === true;
  return {
    ids,
    notices: noticesOf(type, {
      unclear,
      unlisted: listed.filter((it) => it === undefined).length,
      isUntimed: found.isUntimed,
      isFiltered: isFiltered && ids.length > 0,
    }),
  };
}

/** Step 1. @param end of the period, in milliseconds */
async function findDeleted(source: SourceClient, query: HistoryQuery, end: number, isListed: IsListed) {
  const deleted = new Map<string, Deletion>();
  const alive = new IdSet();
  let isUntimed = false;
  const ended = await readHistory(source, query, (entry) => {
    const { id, at, version, resource } = entry;
    const deletion = deleted.get(id);
    // The history is newest first, so a deletion that was met before is even newer than this entry: too new as well.
    if (at >= end) deleted.delete(id);
    else if (deletion) {
      if (resource && deletion.listed === undefined) deletion.listed = isListed(id, resource) ?? "unclear";
    } else if (!resource) {
      if (!alive.has(id)) deleted.set(id, { timed: !Number.isNaN(at), version });
    } else {
      if (Number.isNaN(at)) isUntimed = true;
      alive.add(id);
    }
    return false;
  });
  return { ended, deleted, isUntimed };
}

/** Step 2: removes deletions without a time that are in the history since the end of the period.
 *  @returns how many may be older or not, which are removed as well */
async function dropTooNew(source: SourceClient, query: HistoryQuery, deleted: Map<string, Deletion>): Promise<number> {
  const open = new Map([...deleted].filter(([, { timed }]) => !timed));
  if (open.size === 0) return 0;
  const shown = new Map<string, "same" | "perhaps">();
  const ended = await readHistory(source, query, ({ id, version, resource }) => {
    const deletion = resource ? undefined : open.get(id);
    if (!deletion) return false;
    if (deletion.version === undefined || version === undefined) shown.set(id, "perhaps");
    else if (deletion.version === version) shown.set(id, "same");
    return false;
  });
  let unclear = 0;
  for (const id of ended === "refused" || ended === "unordered" ? open.keys() : shown.keys()) {
    deleted.delete(id);
    // Where the source shows what is older than `_since`, too, a deletion without a time may be older.
    if (ended !== "whole" || shown.get(id) !== "same") unclear++;
  }
  return unclear;
}

/** Reads the version of a resource before its deletion, which is its newest one before `till`. @returns undefined
 *  where it cannot be obtained */
async function lastVersion(
  source: SourceClient,
  type: string,
  id: string,
  till: number,
): Promise<HistoryResource | undefined> {
  let found: HistoryEntry | undefined;
  const query = { link: instanceHistory(type, id), type, id, from: Number.NEGATIVE_INFINITY };
  await readHistory(source, query, (entry) => {
    if (entry.id !== id || !entry.resource || entry.at >= till) return false;
    found = entry;
    return true;
  });
  return found && !Number.isNaN(found.at) ? found.resource : undefined;
}

function noticesOf(
  type: string,
  gaps: { unclear: number; unlisted: number; isUntimed: boolean; isFiltered: boolean },
): string[] {
  const notices: string[] = [];
  const without = (number: number, why: string) => {
    if (number > 0) notices.push(`${number} deletions of ${type} are not listed: ${why} cannot be told.`);
  };
  without(gaps.unclear, "whether they are older than transactionTime");
  without(gaps.unlisted, "in whose compartment the resources were");
  if (gaps.isUntimed)
    notices.push(`Deletions of ${type} may be missing: the source's history holds versions without meta.lastUpdated.`);
  if (gaps.isFiltered)
    notices.push(
      `All deletions of ${type} are listed: whether a resource matched the type's filters cannot be asked once it is gone.`,
    );
  return notices;
}

/** Which deletions belong to an export. At Patient and Group level those of resources that were in the compartment, as
 *  `rowSelector` decides on resources that exist.
 *  @param cohort undefined where everybody is in the export */
export function listedAt(
  { level }: Task["export"],
  cohort: Cohort | undefined,
  type: string,
  compartment: PatientCompartment,
): IsListed {
  if (level === "System") return () => true;
  const patients = cohort && new Set(cohort.patients);
  const groups = new Set(cohort?.groups);
  return (id, before) => {
    if (level === "Group" && type === "Group" && !groups.has(id)) return false;
    if (type === "Patient" && (!patients || patients.has(id))) return true;
    if (!before) return undefined;
    const found = [...compartment.patientsOf(before)];
    if (patients ? found.some((patient) => patients.has(patient)) : found.length > 0) return true;
    // Only the source could have resolved its references, or it was exported with what it is about.
    return compartment.unclearOf(before).length > 0 || type === "Provenance" ? undefined : false;
  };
}

/** Servers take this many entries in a transaction (Azure's default; a client may send a line as it is), and a line
 *  stays below 50 kB. */
const entriesPerBundle = 500;

/** The lines of a type's `deleted` file, without line ends: transaction Bundles, the same for the same ids. */
export function renderDeleted(type: string, ids: readonly string[]): Buffer[] {
  const lines: Buffer[] = [];
  for (let from = 0; from < ids.length; from += entriesPerBundle)
    lines.push(
      Buffer.from(
        JSON.stringify({
          resourceType: "Bundle",
          type: "transaction",
          entry: ids
            .slice(from, from + entriesPerBundle)
            .map((id) => ({ request: { method: "DELETE", url: `${type}/${id}` } })),
        }),
      ),
    );
  return lines;
}
