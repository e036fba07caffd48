/** Patients' records as a hospital's server has them, made from a seed: types in the proportions of Synthea's, codes
 *  with their displays, narrative and attachments, 1.4 kB a resource on average. */
import { type Random, random } from "../test/sources/random.ts";

export interface RecordResource {
  type: string;
  id: string;
  text: string;
}

type Body = Record<string, unknown>;

/** How many of each type a patient has on average. */
const perPatient = {
  Encounter: 70,
  Observation: 518,
  DiagnosticReport: 130,
  Procedure: 115,
  MedicationRequest: 70,
  DocumentReference: 70,
  Condition: 53,
  SupplyDelivery: 17,
  Immunization: 15,
  CareTeam: 4,
  CarePlan: 4,
  Device: 3,
};
/** of each of Organization, Location, Practitioner and PractitionerRole, per patient */
const staffPerPatient = 3;

const words =
  "patient reports history of chronic pain without acute distress and denies fever or weight loss; vital signs stable, plan is to continue current medication and to follow up with primary care within four weeks, allergies reviewed, immunizations are up to date according to the registry of the state".split(
    " ",
  );
const measures: [code: string, display: string, unit: string][] = [
  ["8302-2", "Body Height", "cm"],
  ["29463-7", "Body Weight", "kg"],
  ["39156-5", "Body mass index (BMI) [Ratio]", "kg/m2"],
  ["2339-0", "Glucose [Mass/volume] in Blood", "mg/dL"],
  ["6299-2", "Urea nitrogen [Mass/volume] in Blood", "mg/dL"],
  ["38483-4", "Creatinine [Mass/volume] in Blood", "mg/dL"],
  ["2947-0", "Sodium [Moles/volume] in Blood", "mmol/L"],
  ["4548-4", "Hemoglobin A1c/Hemoglobin.total in Blood", "%"],
  ["18262-6", "Low Density Lipoprotein Cholesterol by Direct assay", "mg/dL"],
  ["718-7", "Hemoglobin [Mass/volume] in Blood", "g/dL"],
];
const findings: [code: string, display: string][] = [
  ["444814009", "Viral sinusitis (disorder)"],
  ["195662009", "Acute viral pharyngitis (disorder)"],
  ["59621000", "Essential hypertension (disorder)"],
  ["162673000", "General examination of patient (procedure)"],
  ["430193006", "Medication Reconciliation (procedure)"],
  ["710824005", "Assessment of health and social care needs (procedure)"],
  ["33747003", "Glucose measurement, blood (procedure)"],
  ["73438004", "Unemployed (finding)"],
];
const first = Date.parse("2012-01-01T08:00:00Z");
const last = Date.parse("2025-06-01T08:00:00Z");

/** The records of some patients, one behind the other, behind the staff of the hospital: so what comes in one
 *  transaction is of one or two patients. 57 patients are about 65,000 resources. */
export function* records({ seed = 1, patients = 57 } = {}): Generator<RecordResource> {
  const r = random(seed);
  const uuid = () => {
    const hex = (length: number) => Array.from({ length }, () => r.int(16).toString(16)).join("");
    return `${hex(8)}-${hex(4)}-4${hex(3)}-a${hex(3)}-${hex(12)}`;
  };
  const make = (type: string, id: string, body: Body): RecordResource => ({
    type,
    id,
    text: JSON.stringify({
      resourceType: type,
      id,
      meta: { profile: [`http://hl7.org/fhir/us/core/StructureDefinition/us-core-${type.toLowerCase()}`] },
      ...body,
    }),
  });
  const staff = Array.from({ length: patients * staffPerPatient }, () => uuid());
  for (const [n, id] of staff.entries()) yield* staffOf(n, id).map(([type, body]) => make(type, id, body));
  for (let n = 0; n < patients; n++) {
    const patient = uuid();
    yield make("Patient", patient, patientBody(r, n));
    // As on real servers, few have much and many have little.
    const share = 0.3 + r.next() * 1.4;
    const chart: Chart = { r, patient, staff, encounters: [] };
    for (const [type, many] of Object.entries(perPatient)) {
      for (let i = 0; i < Math.max(1, Math.round(many * share)); i++) {
        const id = uuid();
        if (type === "Encounter") chart.encounters.push(id);
        yield make(type, id, bodies[type as keyof typeof perPatient](chart));
      }
    }
  }
}

interface Chart {
  r: Random;
  patient: string;
  staff: readonly string[];
  encounters: string[];
}

const coding = (system: string, code: string, display: string) => ({
  coding: [{ system, code, display }],
  text: display,
});
const loinc = (code: string, display: string) => coding("http://loinc.org", code, display);
const snomed = ([code, display]: readonly [string, string]) => coding("http://snomed.info/sct", code, display);
const reference = (type: string, id: string, display?: string) => ({
  reference: `${type}/${id}`,
  ...(display && { display }),
});
const prose = (r: Random, length: number): string => {
  let text = "";
  while (text.length < length) text += `${r.pick(words)} `;
  return text.slice(0, length);
};
const narrative = (r: Random, length: number) => ({
  status: "generated",
  div: `<div xmlns="http://www.w3.org/1999/xhtml"><p>${prose(r, length)}</p></div>`,
});
const time = (r: Random): string => new Date(first + Math.floor(r.next() * (last - first))).toISOString();

/** What most resources of a record have. */
const common = ({ r, patient, encounters }: Chart) => ({
  subject: reference("Patient", patient),
  encounter: reference("Encounter", r.pick(encounters)),
});

const bodies: Record<keyof typeof perPatient, (chart: Chart) => Body> = {
  Encounter: (chart) => ({
    text: narrative(chart.r, 400),
    identifier: [{ use: "official", system: "https://hospital.example/encounter", value: chart.patient }],
    status: "finished",
    class: { system: "http://terminology.hl7.org/CodeSystem/v3-ActCode", code: "AMB" },
    type: [snomed(chart.r.pick(findings))],
    subject: reference("Patient", chart.patient, "Mr. Adolfo Runte"),
    participant: [
      {
        type: [coding("http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "PPRF", "primary performer")],
        period: { start: time(chart.r), end: time(chart.r) },
        individual: reference("Practitioner", chart.r.pick(chart.staff), "Dr. Regena Franecki"),
      },
    ],
    period: { start: time(chart.r), end: time(chart.r) },
    location: [{ location: reference("Location", chart.r.pick(chart.staff), "Hospital of the Valley") }],
    serviceProvider: reference("Organization", chart.r.pick(chart.staff), "Hospital of the Valley"),
  }),
  Observation: (chart) => {
    const { r } = chart;
    const [code, display, unit] = r.pick(measures);
    return {
      text: narrative(r, 120),
      status: "final",
      category: [coding("http://terminology.hl7.org/CodeSystem/observation-category", "laboratory", "Laboratory")],
      code: loinc(code, display),
      ...common(chart),
      effectiveDateTime: time(r),
      issued: time(r),
      performer: [reference("Practitioner", r.pick(chart.staff), "Dr. Regena Franecki")],
      valueQuantity: { value: r.int(20000) / 100, unit, system: "http://unitsofmeasure.org", code: unit },
      referenceRange: [{ low: { value: r.int(90), unit }, high: { value: 100 + r.int(90), unit } }],
    };
  },
  DiagnosticReport: (chart) => ({
    status: "final",
    category: [loinc("34117-2", "History and physical note"), loinc("51847-2", "Evaluation + Plan note")],
    code: loinc("24323-8", "Comprehensive metabolic 2000 panel - Serum or Plasma"),
    ...common(chart),
    effectiveDateTime: time(chart.r),
    issued: time(chart.r),
    performer: [reference("Practitioner", chart.r.pick(chart.staff), "Dr. Regena Franecki")],
    presentedForm: [
      { contentType: "text/plain; charset=utf-8", data: Buffer.from(prose(chart.r, 900)).toString("base64") },
    ],
  }),
  Procedure: (chart) => ({
    text: narrative(chart.r, 450),
    status: "completed",
    code: snomed(chart.r.pick(findings)),
    ...common(chart),
    performedPeriod: { start: time(chart.r), end: time(chart.r) },
    location: reference("Location", chart.r.pick(chart.staff), "Hospital of the Valley"),
    reasonCode: [snomed(chart.r.pick(findings))],
  }),
  MedicationRequest: (chart) => ({
    text: narrative(chart.r, 400),
    status: "stopped",
    intent: "order",
    medicationCodeableConcept: coding(
      "http://www.nlm.nih.gov/research/umls/rxnorm",
      "313782",
      "Acetaminophen 325 MG Oral Tablet",
    ),
    ...common(chart),
    authoredOn: time(chart.r),
    requester: reference("Practitioner", chart.r.pick(chart.staff), "Dr. Regena Franecki"),
    dosageInstruction: [
      { sequence: 1, text: "Take as needed.", asNeededBoolean: true, timing: { repeat: { frequency: 1, period: 1 } } },
    ],
  }),
  DocumentReference: (chart) => ({
    status: "superseded",
    type: loinc("34117-2", "History and physical note"),
    category: [coding("http://hl7.org/fhir/us/core/CodeSystem/category", "clinical-note", "Clinical Note")],
    subject: reference("Patient", chart.patient),
    date: time(chart.r),
    author: [reference("Practitioner", chart.r.pick(chart.staff), "Dr. Regena Franecki")],
    custodian: reference("Organization", chart.r.pick(chart.staff), "Hospital of the Valley"),
    content: [
      {
        attachment: {
          contentType: "text/plain; charset=utf-8",
          data: Buffer.from(prose(chart.r, 1400)).toString("base64"),
        },
        format: { system: "http://ihe.net/fhir/ValueSet/IHE.FormatCode.codesystem", code: "urn:ihe:iti:xds:2017" },
      },
    ],
    context: { encounter: [reference("Encounter", chart.r.pick(chart.encounters))], period: { start: time(chart.r) } },
  }),
  Condition: (chart) => ({
    text: narrative(chart.r, 300),
    clinicalStatus: coding("http://terminology.hl7.org/CodeSystem/condition-clinical", "resolved", "Resolved"),
    verificationStatus: coding("http://terminology.hl7.org/CodeSystem/condition-ver-status", "confirmed", "Confirmed"),
    category: [coding("http://terminology.hl7.org/CodeSystem/condition-category", "encounter-diagnosis", "Diagnosis")],
    code: snomed(chart.r.pick(findings)),
    ...common(chart),
    onsetDateTime: time(chart.r),
    recordedDate: time(chart.r),
  }),
  SupplyDelivery: (chart) => ({
    text: narrative(chart.r, 300),
    status: "completed",
    patient: reference("Patient", chart.patient),
    type: coding("http://terminology.hl7.org/CodeSystem/supply-item-type", "device", "Device"),
    suppliedItem: { quantity: { value: 1 + chart.r.int(20) }, itemCodeableConcept: snomed(chart.r.pick(findings)) },
    occurrenceDateTime: time(chart.r),
  }),
  Immunization: (chart) => ({
    text: narrative(chart.r, 300),
    status: "completed",
    vaccineCode: coding("http://hl7.org/fhir/sid/cvx", "140", "Influenza, seasonal, injectable, preservative free"),
    patient: reference("Patient", chart.patient),
    encounter: reference("Encounter", chart.r.pick(chart.encounters)),
    occurrenceDateTime: time(chart.r),
    primarySource: true,
  }),
  CareTeam: (chart) => ({
    text: narrative(chart.r, 400),
    status: "active",
    ...common(chart),
    participant: chart.staff.slice(0, 3).map((id) => ({ member: reference("Practitioner", id, "Dr. Franecki") })),
  }),
  CarePlan: (chart) => ({
    text: narrative(chart.r, 600),
    status: "active",
    intent: "order",
    category: [snomed(chart.r.pick(findings))],
    ...common(chart),
    activity: findings.slice(0, 4).map((finding) => ({ detail: { code: snomed(finding), status: "in-progress" } })),
  }),
  Device: (chart) => ({
    text: narrative(chart.r, 300),
    status: "active",
    udiCarrier: [{ deviceIdentifier: chart.patient, carrierHRF: `(01)${chart.r.int(1e9)}(11)${chart.r.int(1e9)}` }],
    type: snomed(chart.r.pick(findings)),
    patient: reference("Patient", chart.patient),
  }),
};

function staffOf(n: number, id: string): [string, Body][] {
  const name = `Hospital of the Valley ${n}`;
  const telecom = [{ system: "phone", value: `555-01${String(n).padStart(4, "0")}`, use: "work" }];
  const address = [
    { line: [`${n} Main Street`], city: "Springfield", state: "MA", postalCode: "01101", country: "US" },
  ];
  return [
    ["Organization", { active: true, name, telecom, address }],
    [
      "Location",
      { status: "active", name, telecom, address: address[0], managingOrganization: reference("Organization", id) },
    ],
    [
      "Practitioner",
      { active: true, name: [{ family: `Franecki${n}`, given: ["Regena"], prefix: ["Dr."] }], telecom, address },
    ],
    [
      "PractitionerRole",
      {
        active: true,
        practitioner: reference("Practitioner", id),
        organization: reference("Organization", id),
        location: [reference("Location", id)],
        telecom,
      },
    ],
  ];
}

const patientBody = (r: Random, n: number): Body => ({
  text: narrative(r, 600),
  identifier: [{ system: "https://hospital.example/mrn", value: `mrn-${n}` }],
  name: [{ use: "official", family: `Runte${n}`, given: ["Adolfo", "Ansel"], prefix: ["Mr."] }],
  telecom: [{ system: "phone", value: `555-02${String(n).padStart(4, "0")}`, use: "home" }],
  gender: r.chance(0.5) ? "male" : "female",
  birthDate: `19${20 + r.int(80)}-0${1 + r.int(9)}-1${r.int(10)}`,
  address: [{ line: [`${n} Elm Street`], city: "Springfield", state: "MA", postalCode: "01101", country: "US" }],
  maritalStatus: coding("http://terminology.hl7.org/CodeSystem/v3-MaritalStatus", "M", "Married"),
  communication: [{ language: coding("urn:ietf:bcp:47", "en-US", "English (United States)") }],
});
