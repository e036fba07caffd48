/** Search parameters of the sample server, and where in a resource their values are. They are a small part of R4. */

export type Kind = "token" | "date" | "reference" | "string" | "uri";
export interface Parameter {
  kind: Kind;
  /** Dotted paths from the resource; of arrays every item counts. */
  paths: string[];
  /** Only references to this type count, as for `patient`. */
  target?: string;
}

const token = (...paths: string[]): Parameter => ({ kind: "token", paths });
const date = (...paths: string[]): Parameter => ({ kind: "date", paths });
const text = (...paths: string[]): Parameter => ({ kind: "string", paths });
const link = (...paths: string[]): Parameter => ({ kind: "reference", paths });
const patientIn = (...paths: string[]): Parameter => ({ kind: "reference", paths, target: "Patient" });
const ofPatient = { patient: patientIn("subject"), subject: link("subject") };

const common: Record<string, Parameter> = {
  identifier: token("identifier"),
  _tag: token("meta.tag"),
  _security: token("meta.security"),
  _profile: { kind: "uri", paths: ["meta.profile"] },
};

const own: Record<string, Record<string, Parameter>> = {
  Patient: {
    gender: token("gender"),
    birthdate: date("birthDate"),
    active: token("active"),
    name: text("name.family", "name.given", "name.text"),
    family: text("name.family"),
    given: text("name.given"),
    "address-city": text("address.city"),
    "address-postalcode": text("address.postalCode"),
    "general-practitioner": link("generalPractitioner"),
    organization: link("managingOrganization"),
    link: link("link.other"),
  },
  Encounter: {
    ...ofPatient,
    status: token("status"),
    class: token("class"),
    type: token("type"),
    date: date("period"),
    practitioner: { kind: "reference", paths: ["participant.individual"], target: "Practitioner" },
    participant: link("participant.individual"),
    location: link("location.location"),
    "service-provider": link("serviceProvider"),
  },
  Observation: {
    ...ofPatient,
    performer: link("performer"),
    code: token("code"),
    category: token("category"),
    status: token("status"),
    date: date("effectiveDateTime", "effectivePeriod"),
    encounter: link("encounter"),
    focus: link("focus"),
  },
  Condition: {
    ...ofPatient,
    asserter: link("asserter"),
    code: token("code"),
    category: token("category"),
    "clinical-status": token("clinicalStatus"),
    "onset-date": date("onsetDateTime"),
    "recorded-date": date("recordedDate"),
    encounter: link("encounter"),
  },
  MedicationRequest: {
    ...ofPatient,
    status: token("status"),
    intent: token("intent"),
    code: token("medicationCodeableConcept"),
    medication: link("medicationReference"),
    authoredon: date("authoredOn"),
    requester: link("requester"),
    encounter: link("encounter"),
  },
  DocumentReference: {
    ...ofPatient,
    author: link("author"),
    status: token("status"),
    type: token("type"),
    category: token("category"),
    date: date("date"),
    encounter: link("context.encounter"),
  },
  Immunization: {
    patient: patientIn("patient"),
    status: token("status"),
    "vaccine-code": token("vaccineCode"),
    date: date("occurrenceDateTime"),
    performer: link("performer.actor"),
  },
  Provenance: {
    patient: patientIn("target"),
    target: link("target"),
    agent: link("agent.who"),
    recorded: date("recorded"),
  },
  Group: { member: link("member.entity"), actual: token("actual"), type: token("type"), code: token("code") },
  Device: {
    patient: patientIn("patient"),
    status: token("status"),
    type: token("type"),
    "device-name": text("deviceName.name"),
  },
  Practitioner: {
    active: token("active"),
    gender: token("gender"),
    name: text("name.family", "name.given"),
    family: text("name.family"),
  },
  PractitionerRole: { practitioner: link("practitioner"), organization: link("organization"), active: token("active") },
  Organization: { name: text("name"), active: token("active"), partof: link("partOf"), type: token("type") },
  Location: { name: text("name"), status: token("status"), organization: link("managingOrganization") },
  Medication: { code: token("code"), status: token("status") },
  Procedure: {
    ...ofPatient,
    performer: link("performer.actor"),
    code: token("code"),
    status: token("status"),
    date: date("performedDateTime"),
  },
  DiagnosticReport: {
    ...ofPatient,
    code: token("code"),
    status: token("status"),
    category: token("category"),
    date: date("effectiveDateTime"),
  },
  AllergyIntolerance: {
    patient: patientIn("patient"),
    recorder: link("recorder"),
    asserter: link("asserter"),
    code: token("code"),
  },
  Binary: { contenttype: token("contentType") },
  Basic: { patient: patientIn("subject"), author: link("author"), code: token("code") },
};

/** Types that the server can search (some may hold nothing). */
export const searchable: string[] = Object.keys(own).sort();

/** Types that it can only read by id: in the CapabilityStatement without `search-type`. */
export const readable: string[] = ["Questionnaire", "StructureDefinition"];

/** The search parameters of a type by name. */
export function parametersOf(type: string): Record<string, Parameter> {
  return { ...common, ...own[type] };
}
