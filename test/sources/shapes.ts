import type { Random } from "./random.ts";
import { type Json, raw } from "./text.ts";

/** What the resources of a sample may refer to. Bodies hold neither resourceType nor id nor meta. */
export interface Cast {
  practitioners: string[];
  roles: string[];
  organizations: string[];
  locations: string[];
  devices: string[];
  medications: string[];
}
export type Body = { [name: string]: Json | undefined };

export const reference = (type: string, id: string): Body => ({ reference: `${type}/${id}` });

/** A reference to a patient in one of the spellings that servers hold: plain, with a display, to one version, or with
 *  escapes in the JSON string. */
export function patientReference(r: Random, id: string): Body {
  const roll = r.next();
  if (roll < 0.9) return reference("Patient", id);
  if (roll < 0.94) return { display: 'said "Patient/nobody"', ...reference("Patient", id) };
  if (roll < 0.97) return { reference: `Patient/${id}/_history/1`, type: "Patient" };
  if (roll < 0.985) return { reference: raw(`"Patient\\/${id}"`) };
  return { reference: raw(`"\\u0050atient/${id}"`) };
}

const code = (system: string, value: string, display: string): Body => ({
  coding: [{ system, code: value, display }],
  text: display,
});
const given = ["Zoë", "Łukasz", "小龍", "Ann-Marie", "😀", "Иван", "Nuño", "O'Brien", "Bj\u2028ørn", "José"];
const family = [
  "Müller",
  "Ångström",
  "李",
  "d’Arc",
  "Smith {Jr}",
  "Kovács",
  "\\Backslash",
  'Quote"s',
  "Nguyễn",
  "🧬 Helix",
];
const rawNames = [
  '"Ren\\u00e9"',
  '"\\ud83d\\ude00"',
  '"and\\/or"',
  '"line\\u2028break"',
  '"tab\\there"',
  '"brace\\u007d"',
];
const decimals = ["1.50", "0.010", "1.0E+2", "-0.0", "100", "3.14159265358979323846", "1e-3", "72.0", "0.1"];

const name = (r: Random): Body => ({
  use: "official",
  family: r.chance(0.1) ? raw(r.pick(rawNames)) : r.pick(family),
  given: [r.pick(given), r.chance(0.1) ? raw(r.pick(rawNames)) : r.pick(given)],
});

const pad = (value: number) => String(value).padStart(2, "0");
export const date = (r: Random, year: number, years: number) =>
  `${year + r.int(years)}-${pad(1 + r.int(12))}-${pad(1 + r.int(28))}`;
const dateTime = (r: Random) =>
  `${date(r, 2015, 10)}T${pad(r.int(24))}:${pad(r.int(60))}:${pad(r.int(60))}${r.pick(["Z", "+01:00", "-05:00"])}`;

/** A string with text that looks like JSON, like a part of a Bundle, or like its end: it must not mislead a scanner. */
const narrative = (r: Random): Body => ({
  status: "generated",
  div: `<div xmlns="http://www.w3.org/1999/xhtml"><p>${r.pick([
    '{"resourceType":"Patient","id":"narrative"}',
    '"link":[{"relation":"next","url":"http://nowhere.example/"}]}]}',
    "\\ \" ' {[ }] é ü 漢 🩺",
    '"fullUrl":"x","resource":{"subject":{"reference":"Patient/narrative"}}',
  ])}</p></div>`,
});

export function patient(r: Random, cast: Cast, n: number): Body {
  return {
    text: r.chance(0.3) ? narrative(r) : undefined,
    identifier: [{ system: "http://hospital.example/mrn", value: `mrn-${n}` }],
    active: r.chance(0.9),
    name: [name(r)],
    gender: r.pick(["female", "male", "other", "unknown"]),
    birthDate: date(r, 1930, 90),
    multipleBirthInteger: r.chance(0.05) ? 2 : undefined,
    address: [{ line: ["1 Main St"], city: r.pick(["Zürich", "Köln", "São Paulo", "Boston"]), postalCode: "01234" }],
    generalPractitioner: [reference("Practitioner", r.pick(cast.practitioners))],
    managingOrganization: reference("Organization", r.pick(cast.organizations)),
  };
}

export function encounter(r: Random, cast: Cast, patientID: string): Body {
  return {
    status: r.pick(["finished", "finished", "in-progress", "planned"]),
    class: { system: "http://terminology.hl7.org/CodeSystem/v3-ActCode", code: r.pick(["AMB", "IMP", "EMER"]) },
    type: [code("http://snomed.info/sct", r.pick(["185349003", "308335008"]), "Check-up")],
    subject: patientReference(r, patientID),
    participant: [{ individual: reference("Practitioner", r.pick(cast.practitioners)) }],
    period: { start: dateTime(r), end: r.chance(0.8) ? dateTime(r) : undefined },
    location: [{ location: reference("Location", r.pick(cast.locations)) }],
    serviceProvider: reference("Organization", r.pick(cast.organizations)),
  };
}

const measures = [
  ["8867-4", "Heart rate", "/min"],
  ["29463-7", "Body weight", "kg"],
  ["8310-5", "Body temperature", "Cel"],
  ["2339-0", "Glucose", "mg/dL"],
  ["718-7", "Hemoglobin", "g/dL"],
] as const;

/** Whom an Observation is about. */
export interface Observed {
  patientID: string;
  /** Another patient, whom some Observations name as well. */
  otherID: string;
  encounterID: string | undefined;
}

export function observation(r: Random, cast: Cast, { patientID, otherID, encounterID }: Observed): Body {
  const [loinc, display, unit] = r.pick(measures);
  const performers: Body[] = [reference("Practitioner", r.pick(cast.practitioners))];
  // the patient measured it (two ways into one compartment), or a relative did who is a patient, too (two compartments)
  if (r.chance(0.06)) performers.push(patientReference(r, patientID));
  if (r.chance(0.04)) performers.push(patientReference(r, otherID));
  return {
    text: r.chance(0.05) ? narrative(r) : undefined,
    // contained resources and extensions name a patient, but are no elements of the compartment
    contained: r.chance(0.02)
      ? [{ resourceType: "Specimen", id: "s", subject: reference("Patient", otherID) }]
      : undefined,
    extension: r.chance(0.02)
      ? [{ url: "http://example.org/mother", valueReference: reference("Patient", otherID) }]
      : undefined,
    status: r.pick(["final", "final", "final", "preliminary", "amended"]),
    category: [
      code(
        "http://terminology.hl7.org/CodeSystem/observation-category",
        r.pick(["vital-signs", "laboratory"]),
        "Category",
      ),
    ],
    code: code("http://loinc.org", loinc, display),
    subject: patientReference(r, patientID),
    focus: r.chance(0.02) ? [reference("Patient", otherID)] : undefined,
    encounter: encounterID ? reference("Encounter", encounterID) : undefined,
    effectiveDateTime: dateTime(r),
    performer: performers,
    valueQuantity: {
      value: raw(r.chance(0.5) ? r.pick(decimals) : (r.int(20000) / 100).toFixed(2)),
      unit,
      system: "http://unitsofmeasure.org",
      code: unit,
    },
  };
}

/** An Observation about a device or a place, which is in no patient's compartment. */
export function measurement(r: Random, cast: Cast): Body {
  return {
    status: "final",
    code: code("http://loinc.org", "8310-5", "Temperature"),
    subject: r.chance(0.5) ? reference("Device", r.pick(cast.devices)) : reference("Location", r.pick(cast.locations)),
    effectiveDateTime: dateTime(r),
    valueQuantity: { value: raw(r.pick(decimals)), unit: "Cel" },
  };
}

export function condition(r: Random, cast: Cast, patientID: string): Body {
  return {
    clinicalStatus: code(
      "http://terminology.hl7.org/CodeSystem/condition-clinical",
      r.pick(["active", "resolved"]),
      "Status",
    ),
    category: [code("http://terminology.hl7.org/CodeSystem/condition-category", "encounter-diagnosis", "Diagnosis")],
    code: code("http://snomed.info/sct", r.pick(["38341003", "44054006", "195967001"]), "Diagnosis, so-called"),
    subject: patientReference(r, patientID),
    onsetDateTime: date(r, 2000, 24),
    recordedDate: dateTime(r),
    asserter: r.chance(0.3) ? patientReference(r, patientID) : reference("Practitioner", r.pick(cast.practitioners)),
  };
}

export function medicationRequest(r: Random, cast: Cast, patientID: string): Body {
  const inline = r.chance(0.7);
  return {
    status: r.pick(["active", "completed", "stopped"]),
    intent: "order",
    medicationCodeableConcept: inline
      ? code("http://www.nlm.nih.gov/research/umls/rxnorm", r.pick(["860975", "314076"]), "Metformin 500 mg")
      : undefined,
    medicationReference: inline ? undefined : reference("Medication", r.pick(cast.medications)),
    subject: patientReference(r, patientID),
    authoredOn: dateTime(r),
    requester: reference("PractitionerRole", r.pick(cast.roles)),
    dosageInstruction: [
      {
        text: "½ tablet, täglich",
        doseAndRate: [{ doseQuantity: { value: raw(r.pick(["0.50", "1.0", "2"])), unit: "tablet" } }],
      },
    ],
  };
}

export function documentReference(r: Random, cast: Cast, patientID: string, encounterID: string | undefined): Body {
  return {
    status: "current",
    type: code("http://loinc.org", "34133-9", "Summary of episode note"),
    subject: patientReference(r, patientID),
    date: dateTime(r),
    author: [r.chance(0.2) ? patientReference(r, patientID) : reference("Practitioner", r.pick(cast.practitioners))],
    description: 'ends with a backslash \\ and a quote "',
    content: [
      {
        attachment: {
          contentType: "text/plain",
          data: Buffer.from(`note ${r.int(1e9)} `.repeat(10 + r.int(120))).toString("base64"),
        },
      },
    ],
    context: encounterID ? { encounter: [reference("Encounter", encounterID)] } : undefined,
  };
}

export function immunization(r: Random, patientID: string): Body {
  return {
    status: r.pick(["completed", "not-done"]),
    vaccineCode: code("http://hl7.org/fhir/sid/cvx", r.pick(["140", "08"]), "Influenza | seasonal"),
    patient: patientReference(r, patientID),
    occurrenceDateTime: date(r, 2015, 10),
    primarySource: true,
    doseQuantity: { value: raw("0.50"), unit: "mL" },
  };
}

export function provenance(r: Random, cast: Cast, patientID: string, encounterID: string): Body {
  return {
    // half of them name the patient, which puts them into the compartment; the others name only the Encounter
    target: r.chance(0.5)
      ? [reference("Encounter", encounterID), reference("Patient", patientID)]
      : [reference("Encounter", encounterID)],
    recorded: `${date(r, 2020, 5)}T12:00:00.000Z`,
    agent: [{ who: reference("Practitioner", r.pick(cast.practitioners)) }],
  };
}

export const practitioner = (r: Random, n: number): Body => ({
  identifier: [{ system: "http://hl7.org/fhir/sid/us-npi", value: String(9000000000 + n) }],
  active: true,
  name: [name(r)],
  gender: r.pick(["female", "male"]),
});

export const practitionerRole = (r: Random, cast: Cast): Body => ({
  practitioner: reference("Practitioner", r.pick(cast.practitioners)),
  organization: reference("Organization", r.pick(cast.organizations)),
});

export const organization = (n: number, parent: string | undefined): Body => ({
  active: true,
  name: `Krankenhaus № ${n} & Söhne`,
  partOf: parent ? reference("Organization", parent) : undefined,
});

export const location = (r: Random, cast: Cast, n: number): Body => ({
  status: "active",
  name: `Ward ${n}`,
  position: { longitude: raw(`-${r.int(90)}.${r.int(10)}00`), latitude: raw("42.010") },
  managingOrganization: reference("Organization", r.pick(cast.organizations)),
});

/** In R4 a Device can name its patient, and yet is not in the patient's compartment. */
export const device = (r: Random, patientID: string | undefined): Body => ({
  status: "active",
  deviceName: [{ name: "Pump™", type: "user-friendly-name" }],
  serialNumber: String(r.int(1e9)),
  patient: patientID ? reference("Patient", patientID) : undefined,
});

export const medication = (r: Random): Body => ({
  code: code("http://www.nlm.nih.gov/research/umls/rxnorm", r.pick(["860975", "314076"]), "Medication"),
  amount: { numerator: { value: raw("1.000E+3"), unit: "mg" }, denominator: { value: 1, unit: "tablet" } },
});
