import type { Cohort, Plan, Task } from "../../contracts.ts";
import type { SourceClient } from "../../fhir/client.ts";
import { patientsOf } from "../../fhir/compartment.ts";
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

/** Whether the deletion of a resource is for the export; undefined: that depends on `before`, its last version, which was not given. */
export type IsListed = (id: string, before?: HistoryResource) => boolean | undefined;

export interface Deletions {
  /** sorted, each once */
  ids: string[];
  /** what the user should know; no doubts of the output, which is exact without them */
  notices: string[];
}

interface Deletion {
  /** it is known to be older than `till` */
  timed: boolean;
  version: string | undefined;
  /** whether its last version is listed, where the type's history has shown it */
  listed?: boolean;
}

/** Resources of a type that were deleted in [since, till) and did not come back before `till`, for the manifest's `deleted` (Bulk Data IG: with `_since`).
 *  Read from `Type/_history`, of which ids are held only. Where the source gives deletions no time (HAPI), those that are in its history since `till`, read after
 *  the other, are too new. What cannot be told is not listed: a client would remove what is there, or learn of another patient's resources.
 *  @param isListed of `listedAt` */
export async function readDeleted(
  { source, task }: Pick<Work, "source" | "task">,
  plan: Pick<Plan, "source">,
  type: string,
  { since, till }: { since: string; till: string },
  isListed: IsListed,
): Promise<Deletions> {
  const nothing = (why: string): Deletions => ({ ids: [], notices: [`Deletions of ${type} cannot be told: ${why}.`] });
  if (!task.source.history) return nothing("spec.history of the FhirSource is None");
  if (!plan.source.typeHistory) return nothing("the source has no history of types");
  const { count } = plan.source;
  const history = (from: string) => ({ link: typeHistory(type, from, count), type, from: Date.parse(from) });
  const end = Date.parse(till);

  const deleted = new Map<string, Deletion>();
  const alive = new IdSet();
  let untimed = false;
  const first = await readHistory(source, history(since), (entry) => {
    const { id, at, version, resource } = entry;
    const deletion = deleted.get(id);
    // newest first: the deletion before it is newer, and too new as well
    if (at >= end) deleted.delete(id);
    else if (deletion) {
      if (resource && deletion.listed === undefined) deletion.listed = isListed(id, resource) === true;
    } else if (!resource) {
      if (!alive.has(id)) deleted.set(id, { timed: !Number.isNaN(at), version });
    } else {
      if (Number.isNaN(at)) untimed = true;
      alive.add(id);
    }
    return false;
  });
  if (first === "refused") return nothing("the source refuses the history of this type");
  if (first === "unordered") return nothing("the source's history does not begin with what is newest");

  const unclear = await dropTooNew(source, history(till), deleted);
  const listed = await eachParallel([...deleted], async ([id, deletion]) => {
    const known = isListed(id) ?? deletion.listed;
    if (known !== undefined) return known;
    const before = plan.source.instanceHistory ? await lastVersion(source, type, id, end) : undefined;
    return before && isListed(id, before) === true;
  });
  const ids = [...deleted.keys()].filter((_, index) => listed[index] === true).sort();

  const notices: string[] = [];
  const without = (number: number, why: string) => {
    if (number > 0) notices.push(`${number} deletions of ${type} are not listed: ${why} cannot be told.`);
  };
  without(unclear, "whether they are older than transactionTime");
  without(listed.filter((it) => it === undefined).length, "in whose compartment the resources were");
  if (untimed)
    notices.push(`Deletions of ${type} may be missing: the source's history holds versions without meta.lastUpdated.`);
  if (ids.length > 0 && task.export.typeFilters?.some((filter) => filter.startsWith(`${type}?`)))
    notices.push(
      `All deletions of ${type} are listed: whether a resource matched the type's filters cannot be asked once it is gone.`,
    );
  return { ids, notices };
}

/** Removes deletions without a time that are in the history since `till`. @returns how many may be older or not, which are removed as well */
async function dropTooNew(source: SourceClient, query: HistoryQuery, deleted: Map<string, Deletion>): Promise<number> {
  const open = new Map([...deleted].filter(([, { timed }]) => !timed));
  if (open.size === 0) return 0;
  const shown = new Map<string, "same" | "perhaps">();
  const end = await readHistory(source, query, ({ id, version, resource }) => {
    const deletion = resource ? undefined : open.get(id);
    if (!deletion) return false;
    if (deletion.version === undefined || version === undefined) shown.set(id, "perhaps");
    else if (deletion.version === version) shown.set(id, "same");
    return false;
  });
  let unclear = 0;
  for (const id of end === "refused" || end === "unordered" ? open.keys() : shown.keys()) {
    deleted.delete(id);
    // where the source shows what is older too, what has no time may be that
    if (end !== "whole" || shown.get(id) !== "same") unclear++;
  }
  return unclear;
}

/** What a resource was before its deletion, which is the newest version before `till`; undefined where that cannot be had. */
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

/** Which deletions belong to an export: at Patient and Group level those of resources that were in the compartment, as `selector` judges what is there.
 *  @param cohort where the level has one
 *  @param base of the source */
export function listedAt({ level }: Task["export"], cohort: Cohort | undefined, type: string, base: URL): IsListed {
  if (level === "System") return () => true;
  const patients = cohort && new Set(cohort.patients);
  const groups = new Set(cohort?.groups);
  return (id, before) => {
    if (level === "Group" && type === "Group" && !groups.has(id)) return false;
    if (type === "Patient" && (!patients || patients.has(id))) return true;
    if (!before) return undefined;
    const found = [...patientsOf(before, base)];
    return patients ? found.some((patient) => patients.has(patient)) : found.length > 0;
  };
}

/** Servers take so many entries in a transaction (Azure's default; a client may send a line as it is), and a line stays below 50 kB. */
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
