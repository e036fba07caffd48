import { groups } from "./groups.ts";
import { type Random, random } from "./random.ts";
import * as shape from "./shapes.ts";
import { type Json, raw, write } from "./text.ts";

export interface SampleOptions {
  /** The same seed gives the same bytes. */
  seed?: number;
  /** 1 gives about 7,000 resources of 15 types, 0.1 a tenth */
  scale?: number;
}

/** A generated resource; `text` is its JSON as a server sends it. */
export interface SampleResource {
  type: string;
  id: string;
  versionId: string;
  /** `meta.lastUpdated` in ms since 1970, although some texts have finer fractions; -Infinity: it has none, and is
   *  in no window of time. */
  lastUpdated: number;
  text: string;
}

interface Draft {
  type: string;
  id: string;
  body: shape.Body;
  /** Drafts of one tie share a millisecond, as after a transaction Bundle. */
  tie?: string;
}

const firstUpdate = Date.parse("2019-01-01T00:00:00.000Z");
const lastUpdate = Date.parse("2025-06-30T23:59:59.999Z");

/** Realistic FHIR R4 resources, in the order of `meta.lastUpdated`. */
export function generate({ seed = 1, scale = 1 }: SampleOptions = {}): SampleResource[] {
  const r = random(seed);
  const drafts = draft(r, scale);
  // Each tie has one moment. The gaps between moments differ by orders of magnitude, as on real servers.
  const gaps = drafts.map((item, n) => (item.tie !== undefined && item.tie === drafts[n - 1]?.tie ? 0 : r.next() ** 6));
  const sum = gaps.reduce((total, gap) => total + gap, 0) || 1;
  let passed = 0;
  return drafts.map((item, n) => {
    passed += gaps[n]!;
    return finish(r, item, Math.floor(firstUpdate + (passed / sum) * (lastUpdate - firstUpdate)));
  });
}

function draft(r: Random, scale: number): Draft[] {
  const many = (n: number) => Math.max(2, Math.round(n * scale));
  const ids = (prefix: string, n: number) => Array.from({ length: n }, (_, i) => `${prefix}${i + 1}`);
  const patients = Array.from({ length: Math.max(24, many(110)) }, (_, n) => patientID(r, n));
  const cast: shape.Cast = {
    practitioners: ids("pract-", many(30)),
    roles: ids("role-", many(30)),
    organizations: ids("org.", many(8)),
    locations: ids("loc-", many(12)),
    devices: ids("dev-", many(25)),
    medications: ids("med-", many(15)),
  };
  const drafts: Draft[] = [
    ...cast.organizations.map(
      (id, n): Draft => ({
        type: "Organization",
        id,
        body: shape.organization(n + 1, n ? cast.organizations[0] : undefined),
        tie: "orgs",
      }),
    ),
    ...cast.locations.map((id, n): Draft => ({ type: "Location", id, body: shape.location(r, cast, n + 1) })),
    ...cast.practitioners.map((id, n): Draft => ({ type: "Practitioner", id, body: shape.practitioner(r, n + 1) })),
    ...cast.roles.map((id): Draft => ({ type: "PractitionerRole", id, body: shape.practitionerRole(r, cast) })),
    ...cast.medications.map((id): Draft => ({ type: "Medication", id, body: shape.medication(r), tie: "medications" })),
    ...cast.devices.map(
      (id): Draft => ({ type: "Device", id, body: shape.device(r, r.chance(0.6) ? r.pick(patients) : undefined) }),
    ),
  ];
  const panelOfAll = scale >= 0.5 ? 400 : 90;
  for (const [n, id] of patients.entries())
    drafts.push(...chart(r, cast, { patients, n, id, panel: n === 3 ? panelOfAll : n % 5 === 1 ? 80 : 0 }));
  for (let n = 0; n < many(20); n++)
    drafts.push({ type: "Observation", id: `room-${n}`, body: shape.measurement(r, cast) });
  for (const group of groups(patients, cast.devices)) drafts.push({ type: "Group", ...group });
  return drafts;
}

/** A patient of the sample. */
interface ChartOwner {
  /** All patients' ids, of which `id` is the one at `n`. */
  patients: string[];
  n: number;
  id: string;
  /** Observations that came in one transaction. */
  panel: number;
}

/** What one patient's record holds. For every fourth patient it came in one transaction. */
function chart(r: Random, cast: shape.Cast, { patients, n, id, panel }: ChartOwner): Draft[] {
  const tie = n % 4 === 0 ? { tie: `chart-${n}` } : {};
  const otherID = patients[(n + 7) % patients.length]!;
  const observation = () => shape.observation(r, cast, { patientID: id, otherID, encounterID: visit() });
  const linked = n % 17 === 5 ? [{ other: shape.reference("Patient", patients[n - 1]!), type: "seealso" }] : undefined;
  const own: Draft[] = [{ type: "Patient", id, body: { ...shape.patient(r, cast, n), link: linked }, ...tie }];
  const encounters = Array.from({ length: 2 + r.int(5) }, (_, i) => `enc-${n}-${i}`);
  const visit = () => (r.chance(0.8) ? r.pick(encounters) : undefined);
  const add = (type: string, count: number, body: () => shape.Body) => {
    for (let i = 0; i < count; i++)
      own.push({ type, id: `${type.toLowerCase().slice(0, 4)}-${n}-${i}`, body: body(), ...tie });
  };
  for (const visitID of encounters)
    own.push({ type: "Encounter", id: visitID, body: shape.encounter(r, cast, id), ...tie });
  add("Observation", 12 + r.int(20), observation);
  add("Condition", 2 + r.int(5), () => shape.condition(r, cast, id));
  add("MedicationRequest", 2 + r.int(5), () => shape.medicationRequest(r, cast, id));
  add("DocumentReference", 2 + r.int(5), () => shape.documentReference(r, cast, id, visit()));
  add("Immunization", 1 + r.int(4), () => shape.immunization(r, id));
  add("Provenance", 1, () => shape.provenance(r, cast, id, encounters[0]!));
  for (let i = 0; i < panel; i++)
    own.push({
      type: "Observation",
      id: `panel-${n}-${i}`,
      body: observation(),
      tie: `panel-${n}`,
    });
  return own;
}

function patientID(r: Random, n: number): string {
  if (n % 3 === 0) return `p${n}`;
  const hex = (length: number) => Array.from({ length }, () => r.int(16).toString(16)).join("");
  if (n % 3 === 1) return `${hex(8)}-${hex(4)}-4${hex(3)}-a${hex(3)}-${hex(12)}`;
  // as long as an id may be, with every kind of character that it may hold
  return `Pat.${n}-`.padEnd(64, "X.y-9");
}

function finish(r: Random, { type, id, body }: Draft, lastUpdated: number): SampleResource {
  const versionId = r.chance(0.05) ? String(2 + r.int(30)) : "1";
  const meta: Json = {
    versionId,
    lastUpdated: instant(r, lastUpdated),
    source: r.chance(0.2) ? "urn:hospital:hl7v2" : undefined,
    profile: r.chance(0.3)
      ? [`http://hl7.org/fhir/us/core/StructureDefinition/us-core-${type.toLowerCase()}`]
      : undefined,
    tag: r.chance(0.1) ? [{ system: "http://example.org/tags", code: "synthetic", display: "not {real}" }] : undefined,
  };
  const roll = r.next();
  const resource: Json =
    roll < 0.85
      ? { resourceType: type, id, meta, ...body }
      : roll < 0.92
        ? { ...body, id, meta, resourceType: type }
        : roll < 0.97
          ? { id, ...body, resourceType: type, meta }
          : { meta, resourceType: raw(`"${type}"`), ...body, id };
  return { type, id, versionId, lastUpdated, text: write(resource, r.chance(0.03) ? " " : "") };
}

/** An instant as servers spell it: Z, an offset, without ms where they are 0, or finer than ms. */
function instant(r: Random, ms: number): string {
  const text = new Date(ms).toISOString();
  const roll = r.next();
  if (roll < 0.85) return text;
  if (roll < 0.93) return text.replace("Z", "+00:00");
  if (roll < 0.97) return new Date(ms + 7_200_000).toISOString().replace("Z", "+02:00");
  if (text.endsWith(".000Z")) return text.replace(".000Z", "Z");
  return text.replace("Z", "456Z");
}
