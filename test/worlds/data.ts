import type { SampleResource } from "../sources/generator.ts";
import type { Random } from "../sources/random.ts";
import * as shape from "../sources/shapes.ts";
import { uuidOf } from "../sources/store.ts";
import { type Json, write } from "../sources/text.ts";

/** The data of a world, with what is needed to write more of it. */
export interface Data {
  resources: SampleResource[];
  patients: string[];
  groups: string[];
  /** A new body for a resource, or for a new one. */
  body(r: Random, type: string): shape.Body;
  types: string[];
}

const day = 86_400_000;

/** Types with a weight: how many of them there are beside each other. */
const kinds: [type: string, weight: number][] = [
  ["Observation", 10],
  ["Encounter", 4],
  ["Condition", 3],
  ["MedicationRequest", 2],
  ["Immunization", 2],
  ["Provenance", 2],
  ["DocumentReference", 1],
  ["Organization", 1],
  ["Practitioner", 1],
  ["Device", 1],
  ["Location", 1],
];

/** Draws the data of a world: some patients, Groups of them, and up to a few hundred resources.
 *  @param end the moment at which the export begins
 *  @param uuidVersions whether versionIds are UUIDs */
export function drawData(r: Random, end: number, uuidVersions = false): Data {
  const patients = Array.from({ length: 1 + r.int(12) }, (_, n) => patientID(r, n));
  const ids = (prefix: string, most: number) => Array.from({ length: 1 + r.int(most) }, (_, n) => `${prefix}${n + 1}`);
  const cast: shape.Cast = {
    practitioners: ids("pract-", 3),
    roles: ids("role-", 2),
    organizations: ids("org.", 3),
    locations: ids("loc-", 2),
    devices: ids("dev-", 3),
    medications: ids("med-", 2),
  };
  const body = (own: Random, type: string) => bodyOf(own, type, cast, patients);
  const wanted = kinds.filter(() => r.chance(0.55));
  if (wanted.length === 0) wanted.push(kinds[0]!);
  const size = r.pick([5, 10, 20, 40, 80, 160, 300]);
  const sum = wanted.reduce((total, [, weight]) => total + weight, 0);
  const drafts = wanted.flatMap(([type, weight]) =>
    Array.from({ length: Math.max(1, Math.round((size * weight) / sum)) }, (_, n) => ({
      type,
      id: `${type.toLowerCase().slice(0, 4)}-${n}`,
      body: body(r, type),
    })),
  );
  const people = patients.map((id, n) => ({ type: "Patient", id, body: shape.patient(r, cast, n) }));
  const groups = groupsOf(r, patients);
  const all = [...groups, ...people, ...shuffled(r, drafts)];
  const times = timesOf(r, all.length, end);
  const old = end - 700_000;
  // Groups are older than the export, whatever clock it goes by: who is in one is asked as of transactionTime.
  times.fill(Math.min(times[0]!, old), 0, groups.length);
  return {
    resources: all.map((draft, n) => {
      // What is new has no versions that nobody knows of.
      const number = r.chance(0.05) && times[n]! < old ? String(2 + r.int(30)) : "1";
      return finish(r, draft, times[n]!, uuidVersions ? uuidOf(-n - 1) : number);
    }),
    patients,
    groups: groups.map(({ id }) => id),
    body,
    types: [...new Set(all.map(({ type }) => type))],
  };
}

function bodyOf(r: Random, type: string, cast: shape.Cast, patients: readonly string[]): shape.Body {
  const patientID = r.pick(patients);
  switch (type) {
    case "Patient":
      return shape.patient(r, cast, 0);
    case "Observation":
      return r.chance(0.1)
        ? shape.measurement(r, cast)
        : shape.observation(r, cast, { patientID, otherID: r.pick(patients), encounterID: undefined });
    case "Encounter":
      return shape.encounter(r, cast, patientID);
    case "Condition":
      return shape.condition(r, cast, patientID);
    case "MedicationRequest":
      return shape.medicationRequest(r, cast, patientID);
    case "Immunization":
      return shape.immunization(r, patientID);
    case "Provenance":
      return shape.provenance(r, cast, patientID, "enco-0");
    case "DocumentReference":
      return shape.documentReference(r, cast, patientID, undefined);
    case "Organization":
      return shape.organization(r.int(9), undefined);
    case "Practitioner":
      return shape.practitioner(r, r.int(9));
    case "Device":
      return shape.device(r, patientID);
    default:
      return shape.location(r, cast, r.int(9));
  }
}

/** Plain and nested Groups, one that contains itself, members that do not count, and members twice. */
function groupsOf(r: Random, patients: readonly string[]): { type: string; id: string; body: shape.Body }[] {
  const member = (id: string): shape.Body => ({
    entity: shape.reference("Patient", id),
    inactive: r.chance(0.1) ? true : undefined,
    period: r.chance(0.1) ? { start: "2010-01-01", end: r.chance(0.5) ? "2015-06-30" : undefined } : undefined,
  });
  const count = r.int(4);
  return Array.from({ length: count }, (_, n) => {
    const members = patients.filter(() => r.chance(0.4)).map(member);
    if (r.chance(0.3)) members.push({ entity: shape.reference("Group", `group-${r.int(count)}`) });
    if (r.chance(0.2)) members.push({ entity: shape.reference("Device", "dev-1") });
    return {
      type: "Group",
      id: `group-${n}`,
      body: { active: true, type: "person", actual: true, member: members.length ? members : undefined },
    };
  });
}

function shuffled<T>(r: Random, items: readonly T[]): T[] {
  const all = [...items];
  for (let at = all.length - 1; at > 0; at--) {
    const other = r.int(at + 1);
    [all[at], all[other]] = [all[other]!, all[at]!];
  }
  return all;
}

/** Times of resources, in order: some share an instant, gaps differ by orders of magnitude, and some lie within the
 *  last minutes before the export. */
function timesOf(r: Random, count: number, end: number): number[] {
  const ties = r.pick([0, 0.1, 0.5, 0.95]);
  const span = r.pick([60_000, day, 365 * day, 3650 * day]);
  const last = end - r.pick([0, 1, 1500, 30_000, 90_000, day]);
  const gaps: number[] = Array.from({ length: count }, () => (r.chance(ties) ? 0 : r.next() ** 4 + 1e-9));
  const sum = gaps.reduce((total, gap) => total + gap, 0) || 1;
  let passed = 0;
  return gaps.map((gap) => Math.floor(last - span + ((passed += gap) / sum) * span));
}

function patientID(r: Random, n: number): string {
  const form = r.int(4);
  if (form === 0) return `Pat.${n}-`.padEnd(64, "X.y-9");
  if (form === 1) return String(n);
  return `p${n}`;
}

function finish(
  r: Random,
  { type, id, body }: { type: string; id: string; body: shape.Body },
  lastUpdated: number,
  versionId: string,
): SampleResource {
  const meta: Json = { versionId, lastUpdated: new Date(lastUpdated).toISOString() };
  const resource: Json = r.chance(0.9)
    ? { resourceType: type, id, meta, ...body }
    : { ...body, id, meta, resourceType: type };
  return { type, id, versionId, lastUpdated, text: write(resource, r.chance(0.03) ? " " : "") };
}

/** The text of a resource as it is written to the source, which sets its meta. */
export const textOf = (type: string, id: string, body: shape.Body): string =>
  write({ resourceType: type, id, ...body }, "");
