/** Which lines an export of a sample must hold. It is worked out from the parsed resources one by one, without an index
 *  and without code of the product. */

export interface Wanted {
  level?: "System" | "Patient" | "Group";
  groupId?: string;
  /** Patient ids that narrow a Patient or Group export */
  patients?: readonly string[];
  /** default: all, at Patient and Group level those of the compartment */
  types?: readonly string[];
  /** `meta.lastUpdated` in [since, until) */
  since?: string | undefined;
  until?: string | undefined;
  /** per type: what its typeFilters mean (any of them suffices); types without one are whole */
  filters?: Record<string, ((resource: Resource) => boolean)[]>;
  /** when membership of Groups is judged; default: now */
  asOf?: number;
  /** base URLs besides its own by which the source calls itself */
  names?: readonly string[];
  /** of FHIR; default: R4 */
  release?: "R4" | "R5";
}

// biome-ignore lint/suspicious/noExplicitAny: FHIR resources of all types
export type Resource = any;

/** Elements that put a resource into a Patient's compartment: R4 CompartmentDefinition/patient, for the types of the
 *  sample. Device, Practitioner, Location and others have none, also where they name a patient. */
const compartment: Record<string, (resource: Resource) => Resource[]> = {
  Patient: (it) => list(it.link).map((link) => link.other),
  Encounter: (it) => [it.subject],
  Observation: (it) => [it.subject, ...list(it.performer)],
  Condition: (it) => [it.subject, it.asserter],
  MedicationRequest: (it) => [it.subject],
  DocumentReference: (it) => [it.subject, ...list(it.author)],
  Immunization: (it) => [it.patient],
  Provenance: (it) => list(it.target),
  Group: (it) => list(it.member).map((member) => member.entity),
  Procedure: (it) => [it.subject, ...list(it.performer).map((performer) => performer.actor)],
  DiagnosticReport: (it) => [it.subject],
  AllergyIntolerance: (it) => [it.patient, it.recorder, it.asserter],
  Basic: (it) => [it.subject, it.author],
};

const list = (value: Resource): Resource[] => value ?? [];

/** Where R5 differs (CompartmentDefinition/patient 5.0.0), for the types of the sample. */
const compartmentR5: typeof compartment = {
  ...compartment,
  AllergyIntolerance: (it) => [it.patient, ...list(it.participant).map((participant) => participant.actor)],
  Condition: (it) => [it.subject, ...list(it.participant).map((participant) => participant.actor)],
  Provenance: (it) => [it.patient],
};

/** `Type/id` of the resource to which a reference leads, as far as it leads to one of the source. */
function targetOf(reference: Resource, bases: readonly string[]): string | undefined {
  const text = String(reference?.reference ?? "");
  const base = bases.find((one) => text.startsWith(`${one}/`));
  const local = base === undefined ? text.replace(/^\//, "") : text.slice(base.length + 1);
  const [type = "", id = "", ...more] = local.split("/");
  return /^[A-Z][a-zA-Z]+$/.test(type) && id !== "" && (more.length === 0 || more[0] === "_history")
    ? `${type}/${id}`
    : undefined;
}

function idOf(type: string, reference: Resource, bases: readonly string[] = []): string | undefined {
  const target = targetOf(reference, bases);
  return target?.startsWith(`${type}/`) ? target.slice(type.length + 1) : undefined;
}

/** Ids of the Patients in whose compartment a resource is (a Patient is in its own). */
export function patientsOf(
  resource: Resource,
  base?: string,
  wanted: Pick<Wanted, "names" | "release"> = {},
): string[] {
  const bases = [...(base === undefined ? [] : [base]), ...(wanted.names ?? [])];
  const table = wanted.release === "R5" ? compartmentR5 : compartment;
  const named = (table[resource.resourceType]?.(resource) ?? [])
    .map((reference) => idOf("Patient", reference, bases))
    .filter((id) => id !== undefined);
  return resource.resourceType === "Patient" ? [resource.id, ...named] : named;
}

// A line is the same buffer at each look at a source (store.ts), and there are thousands of them.
const parsed = new WeakMap<Buffer, Resource>();
function parsedLine(line: Buffer): Resource {
  let resource = parsed.get(line);
  if (!resource) parsed.set(line, (resource = JSON.parse(line.toString()) as Resource));
  return resource;
}

/** `Type/id` -> line, for an export that sees the whole source as it is now. Level Patient: everything in some
 *  Patient's compartment. Level Group: everything in a member's compartment; of Groups only the named one and those
 *  nested in it, as other Groups of a member would tell who else is in them. A Provenance also if one of its targets is
 *  a line. A filter of Patient narrows the Patient lines, not the others. */
export function expected(
  source: { baseURL?: string; dump(type?: string): Map<string, Buffer> },
  wanted: Wanted = {},
): Map<string, Buffer> {
  const { level = "System", types, filters = {} } = wanted;
  const lines = source.dump();
  const resources = new Map([...lines].map(([key, line]) => [key, parsedLine(line)]));
  const bases = [...(source.baseURL === undefined ? [] : [source.baseURL]), ...(wanted.names ?? [])];
  const cohort =
    level === "Group" ? membersOf(resources, wanted.groupId!, wanted.asOf ?? Date.now(), bases) : undefined;
  const narrowed = wanted.patients ? new Set(wanted.patients) : undefined;
  const since = wanted.since ? Date.parse(wanted.since) : Number.NEGATIVE_INFINITY;
  const until = wanted.until ? Date.parse(wanted.until) : Number.POSITIVE_INFINITY;

  const belongs = (it: Resource): boolean => {
    if (level === "System")
      return types !== undefined || (it.resourceType !== "Binary" && it.resourceType !== "OperationOutcome");
    if (cohort && it.resourceType === "Group" && !cohort.groups.has(it.id)) return false;
    return patientsOf(it, source.baseURL, wanted).some(
      (id) => (!cohort || cohort.patients.has(id)) && (!narrowed || narrowed.has(id)),
    );
  };
  const isKept = (key: string, isInLevel: (it: Resource) => boolean): boolean => {
    const it = resources.get(key)!;
    // finer fractions than ms do not count: windows have ms
    const updated = Date.parse(String(it.meta?.lastUpdated).replace(/(\.\d{3})\d+/, "$1"));
    if (types && !types.includes(it.resourceType)) return false;
    if (updated < since || updated >= until || !isInLevel(it)) return false;
    return filters[it.resourceType]?.some((filter) => filter(it)) ?? true;
  };
  const kept = new Set([...lines.keys()].filter((key) => isKept(key, belongs)));
  const ofKept = (it: Resource) => list(it.target).some((target) => kept.has(targetOf(target, bases) ?? ""));
  const about = [...lines.keys()].filter(
    (key) => level !== "System" && key.startsWith("Provenance/") && isKept(key, ofKept),
  );
  return new Map([...lines].filter(([key]) => kept.has(key) || about.includes(key)));
}

/** Patients of a Group as of a moment, nested Groups included, and the Groups that were walked through. */
export function membersOf(
  resources: Map<string, Resource>,
  groupId: string,
  asOf: number,
  bases: readonly string[] = [],
): { patients: Set<string>; groups: Set<string> } {
  const patients = new Set<string>();
  const groups = new Set<string>();
  const walk = (id: string): void => {
    const group = resources.get(`Group/${id}`);
    if (!group) throw new Error(`there is no Group/${id}`);
    if (groups.has(id)) return;
    groups.add(id);
    for (const member of list(group.member)) {
      if (!isMember(member, asOf)) continue;
      const patient = idOf("Patient", member.entity, bases);
      const nested = idOf("Group", member.entity, bases);
      if (patient) patients.add(patient);
      if (nested) walk(nested);
    }
  };
  walk(groupId);
  return { patients, groups };
}

function isMember({ inactive, period }: Resource, asOf: number): boolean {
  const { start, end } = period ?? {};
  // a date without a time lasts until its day is over
  const isOver = end && (end.length > 10 ? Date.parse(end) : Date.parse(end) + 86_400_000) <= asOf;
  return inactive !== true && !isOver && !(start && Date.parse(start) >= asOf);
}
