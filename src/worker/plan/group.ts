import type { Cohort } from "../../contracts.ts";
import { terminal } from "../../failure.ts";
import type { SourceClient } from "../../fhir/client.ts";
import { patientId, referredId } from "../../fhir/compartment.ts";
import { versionBefore } from "../../fhir/history.ts";

interface Period {
  start?: string;
  end?: string;
}
interface Group {
  resourceType?: string;
  meta?: { lastUpdated?: string };
  characteristic?: unknown[];
  member?: { entity?: { reference?: string }; inactive?: boolean; period?: Period }[];
}

/** Resolves a Group to its patients as of a moment: its direct members and those of nested Groups, without inactive
 *  ones and those whose period does not hold the moment. Characteristics are not evaluated.
 *  @param at the moment, in milliseconds
 *  @returns the cohort, and notices that the user should read
 *  @throws terminal UnknownGroup, WrongResource */
export async function resolveGroup(
  source: SourceClient,
  groupId: string,
  at: number,
): Promise<Omit<Cohort, "v" | "uid"> & { notices: string[] }> {
  const notices = new Set<string>();
  const patients = new Set<string>();
  const groups = new Set<string>([groupId]);
  for (const id of groups) {
    let group = await readGroup(source, id);
    if (group && Date.parse(group.meta?.lastUpdated ?? "") >= at) {
      const before = await versionBefore(source, "Group", id, new Date(at).toISOString());
      // a Group that was created a moment ago, and is asked for now, is meant as it is
      if (before === undefined || before === "none")
        notices.add(
          "The Group, or one nested in it, is newer than transactionTime: its members are those that it has now.",
        );
      else group = parseGroup(before.bytes.subarray(before.entry.start, before.entry.end));
    }
    if (!group) {
      if (id === groupId) throw terminal("UnknownGroup", "spec.groupId: the source has no such Group");
      notices.add(
        "A Group that is nested in the export's Group does not exist in the source; its members are not exported.",
      );
      groups.delete(id);
      continue;
    }
    if (group.characteristic?.length)
      notices.add(
        "The Group, or one nested in it, has characteristics, which are not evaluated: the export holds its members alone.",
      );
    for (const { entity, inactive, period } of group.member ?? []) {
      if (inactive === true || !periodHolds(period, at)) continue;
      const patient = patientId(entity?.reference, source.base);
      if (patient) patients.add(patient);
      const nested = referredId("Group", entity?.reference, source.base);
      // The loop visits what is added to the Set while it runs, and the Set keeps each id once: circles end by
      // themselves.
      if (nested) groups.add(nested);
    }
  }
  return { patients: [...patients].sort(), groups: [...groups].sort(), notices: [...notices] };
}

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
