import type { Cohort } from "../../cohort.ts";
import { terminal } from "../../failure.ts";
import type { SourceClient } from "../../fhir/client.ts";
import { versionBefore } from "../../fhir/history.ts";
import type { Referred, ServerNames, Unclear } from "../../fhir/references.ts";
import { PatientQuestions } from "../patient-questions.ts";

interface Period {
  start?: string;
  end?: string;
}
interface Group {
  resourceType?: string;
  meta?: { lastUpdated?: string };
  /** R4: false where it describes its members instead of naming them */
  actual?: boolean;
  /** the same in R5 */
  membership?: string;
  characteristic?: unknown[];
  modifierExtension?: unknown[];
  member?: { entity?: unknown; inactive?: boolean; period?: Period }[];
}

/** A Group that is resolved. */
export interface ResolvedGroup extends Omit<Cohort, "v" | "uid"> {
  /** what the user should know */
  notices: string[];
  /** who may be missing */
  doubts: string[];
  /** base URLs by which the source has shown to know itself */
  names: string[];
}

/** What a Group and those nested in it say. */
interface FoundMembers {
  patients: Set<string>;
  groups: Set<string>;
  /** members who may be patients of the source, and the Group that has them */
  unclear: { group: string; reference: Unclear }[];
  /** how many members are of another type */
  others: number;
  /** how many members refer to nothing */
  nobody: number;
  notices: Set<string>;
  doubts: Set<string>;
}

/** Resolves a Group to its patients as of a moment: its direct members and those of nested Groups, without inactive
 *  ones and those whose period does not hold the moment. Characteristics are not evaluated. Members that are referred
 *  to by another address, a URN or an identifier are asked about.
 *  @param names of the source
 *  @param at the moment, in milliseconds
 *  @throws terminal UnknownGroup, WrongResource */
export async function resolveGroup(
  source: SourceClient,
  names: ServerNames,
  groupId: string,
  at: number,
): Promise<ResolvedGroup> {
  const found: FoundMembers = {
    patients: new Set(),
    groups: new Set([groupId]),
    unclear: [],
    others: 0,
    nobody: 0,
    notices: new Set(),
    doubts: new Set(),
  };
  for (const id of found.groups) {
    const group = await groupAt(source, id, at, found.notices);
    if (!group) {
      if (id === groupId) throw terminal("UnknownGroup", "spec.groupId: the source has no such Group");
      found.notices.add(
        "A Group that is nested in the export's Group does not exist in the source; its members are not exported.",
      );
      found.groups.delete(id);
      continue;
    }
    noteRules(group, found);
    // The loop visits what is added to the Set while it runs, and the Set keeps each id once: circles end by
    // themselves.
    for (const { entity, inactive, period } of group.member ?? [])
      if (inactive !== true && periodHolds(period, at)) addMember(found, id, names.read(entity));
  }
  const aliases = await askAboutMembers(source, found);
  const { patients, groups, others, nobody, notices, doubts } = found;
  if (others > 0) notices.add(`${others} members of the Group are no patients and no Groups; they are not exported.`);
  if (nobody > 0)
    doubts.add(
      `${nobody} members of the Group are left out: they are referred to by an identifier, a URN, another server's address or nothing at all, and which patients of the source they are cannot be told.`,
    );
  return {
    patients: [...patients].sort(),
    groups: [...groups].sort(),
    notices: [...notices],
    doubts: [...doubts],
    names: aliases,
  };
}

/** The Group as of a moment; as it is now where that cannot be told. */
async function groupAt(source: SourceClient, id: string, at: number, notices: Set<string>): Promise<Group | undefined> {
  const group = await readGroup(source, id);
  if (!group || !(Date.parse(group.meta?.lastUpdated ?? "") >= at)) return group;
  const before = await versionBefore(source, "Group", id, new Date(at).toISOString());
  if (before !== undefined && before !== "none")
    return parseGroup(before.bytes.subarray(before.entry.start, before.entry.end));
  // a Group that was created a moment ago, and is asked for now, is meant as it is
  notices.add("The Group, or one nested in it, is newer than transactionTime: its members are those that it has now.");
  return group;
}

/** Rules for who is in a Group are not evaluated. Where it has nothing else, or where they change the meaning of the
 *  rest, its members cannot be known. */
function noteRules(
  { actual, membership, characteristic, modifierExtension }: Group,
  { notices, doubts }: FoundMembers,
) {
  const isByRule = actual === false || membership === "definitional" || membership === "conceptual";
  if (modifierExtension?.length || (isByRule && characteristic?.length))
    doubts.add(
      "The Group, or one nested in it, says by rules who is in it (characteristics, or a modifierExtension such as a member filter), which are not evaluated: the export holds only the members that it names.",
    );
  else if (characteristic?.length)
    notices.add(
      "The Group, or one nested in it, has characteristics, which are not evaluated: the export holds its members alone.",
    );
}

function addMember(found: FoundMembers, group: string, referred: Referred): void {
  if (referred === "none") found.nobody++;
  else if ("id" in referred) {
    if (referred.type === "Patient") found.patients.add(referred.id);
    else if (referred.type === "Group") found.groups.add(referred.id);
    else found.others++;
  } else {
    const { type = "Patient" } = referred.unclear;
    if (type === "Patient") found.unclear.push({ group, reference: referred });
    else if (type === "Group") found.nobody++;
    else found.others++;
  }
}

/** How many members of an unknown base URL the source is asked about, to find out whether it means itself. */
const askedOfBase = 3;

/** Finds out which patients the unclear members are: the one who has the identifier, or, where the source finds the
 *  Group by them, those who have the ids.
 *  @returns base URLs by which the source means itself */
async function askAboutMembers(source: SourceClient, found: FoundMembers): Promise<string[]> {
  const questions = new PatientQuestions(source);
  const candidates = await questions.candidates(found.unclear.map(({ reference }) => reference));
  const own = new Map<string, boolean>();
  for (const [base, members] of Map.groupBy(found.unclear, ({ reference }) => reference.unclear.base)) {
    if (base === undefined) continue;
    const known = members
      .filter(({ reference }) => candidateCount(candidates.get(reference)) === 1)
      .slice(0, askedOfBase);
    let isOwn = known.length > 0;
    for (const { group, reference } of known)
      isOwn &&= (await questions.finds("Group", "member", new Set([reference.unclear.id!]), new Set([group]))).has(
        group,
      );
    own.set(base, isOwn);
  }
  for (const { reference } of found.unclear) {
    const { base, id, isURN } = reference.unclear;
    const patients = candidates.get(reference);
    const isMeant = base !== undefined ? own.get(base) : id === undefined && !isURN;
    if (isMeant && candidateCount(patients) === 1)
      for (const patient of patients as ReadonlySet<string>) found.patients.add(patient);
    else found.nobody++;
  }
  return [...own].filter(([, isOwn]) => isOwn).map(([base]) => base);
}

const candidateCount = (candidates: ReadonlySet<string> | "unknown" | undefined): number =>
  typeof candidates === "object" ? candidates.size : 0;

function readGroup(source: SourceClient, id: string): Promise<Group | undefined> {
  return source.get(
    `Group/${encodeURIComponent(id)}`,
    ({ status, isRefusal, body }) => {
      if (isRefusal && (status === 404 || status === 410)) return undefined;
      if (isRefusal) throw terminal("UnknownGroup", `spec.groupId: the source refuses to show the Group (${status})`);
      const group = parseGroup(body);
      if (group.resourceType !== "Group")
        throw terminal("WrongResource", "the source answers a read of a Group with another resource");
      return group;
    },
    { purpose: "resource" },
  );
}

const parseGroup = (bytes: Buffer) => JSON.parse(bytes.toString()) as Group;

/** Whether a period holds a moment. Both ends are inclusive (FHIR datatypes, Period), the end to its precision. */
function periodHolds(period: Period | undefined, at: number): boolean {
  const start = period?.start === undefined ? undefined : Date.parse(period.start);
  const end = period?.end === undefined ? undefined : endOfPrecision(period.end);
  return !(start !== undefined && start > at) && !(end !== undefined && end < at);
}

/** The last millisecond of a FHIR date, to its precision: a day ends with its day, a year with its year. */
function endOfPrecision(date: string): number {
  const [year, month, day] = date.split("-").map(Number);
  if (/^\d{4}$/.test(date)) return Date.UTC(year! + 1, 0) - 1;
  if (/^\d{4}-\d{2}$/.test(date)) return Date.UTC(year!, month!) - 1;
  if (/^\d{4}-\d{2}-\d{2}$/.test(date)) return Date.UTC(year!, month! - 1, day! + 1) - 1;
  return Date.parse(date);
}
