import { ScanError } from "../scan/page.ts";
import type { PageTable } from "../scan/table.ts";
import { ascii } from "../scan/text.ts";
import table from "./patient-compartment.json" with { type: "json" };

/** The R4 Patient compartment, from the specification's CompartmentDefinition/patient 4.0.1 and the expressions of the
 *  search parameters that it names: type -> search parameter -> elements. A resource is in the compartment of a patient
 *  when one of these elements refers to the patient. */
const compartment: Record<string, Record<string, string[]>> = table;

export const compartmentTypes: ReadonlySet<string> = new Set(Object.keys(compartment));

/** The ids of the patients in whose compartment a parsed resource is. Only the elements of the compartment count, no
 *  other reference.
 *  @param base the source's base URL: an absolute reference counts only where it leads there */
export function patientsOf(resource: Record<string, unknown>, base: URL): Set<string> {
  const type = String(resource.resourceType);
  const ids = new Set<string>();
  if (type === "Patient" && typeof resource.id === "string") ids.add(resource.id);
  for (const parameter of Object.keys(compartment[type] ?? {}))
    for (const id of patientsBy(resource, parameter, base)) ids.add(id);
  return ids;
}

/** The search parameters that together find everything of a type that is in a patient's compartment. A parameter is
 *  left out where another one has all of its elements. */
export function compartmentParameters(type: string): string[] {
  const parameters = Object.entries(compartment[type] ?? {});
  const covers = (other: string[], elements: string[]) => elements.every((element) => other.includes(element));
  return parameters
    .filter(
      ([, elements], at) =>
        !parameters.some(
          ([, other], index) => index !== at && covers(other, elements) && (index < at || !covers(elements, other)),
        ),
    )
    .map(([name]) => name);
}

/** The ids of the patients to which the elements of one search parameter of the compartment refer. */
export const patientsBy = (resource: Record<string, unknown>, parameter: string, base: URL): string[] =>
  referencesOf(resource, compartment[String(resource.resourceType)]?.[parameter] ?? [])
    .map((reference) => patientId((reference as { reference?: unknown } | null)?.reference, base))
    .filter((id) => id !== undefined);

/** Whether an element of the compartment refers in a way that only the server can resolve: to another address, by URN
 *  or by identifier. */
export function isUnclear(resource: Record<string, unknown>, base: URL): boolean {
  const paths = Object.values(compartment[String(resource.resourceType)] ?? {}).flat();
  return referencesOf(resource, paths).some((value) => {
    const { reference, identifier } = (value ?? {}) as { reference?: unknown; identifier?: unknown };
    if (typeof reference !== "string") return identifier !== undefined;
    return !reference.startsWith("#") && !reference.startsWith(base.href) && !/^[A-Z][A-Za-z]+\//.test(reference);
  });
}

/** The names of the members below which a resource of the type refers to patients, for `Expected.members` of the
 *  scanner. */
export const membersOf = (type: string): string[] => referringMembers(type).map(({ name }) => name);

/** What is looked for in a row: one of these patients, all patients (their ids are added to the list), or, undefined,
 *  any patient at all. */
type WantedPatients = PatientSet | string[] | undefined;

/** Finds the patients in whose compartment the resources of one type are, in the rows of a page's table. It gives what
 *  `patientsOf` gives for the parsed resource, but parses only those members of a resource that refer, and only where
 *  the scanner did not recognise their bytes. The table must have been made to expect this type and its `membersOf`,
 *  and a row must have an id. */
export class Compartment {
  /** the source's base URL */
  readonly base: URL;
  readonly #type: string;
  readonly #members: readonly Member[];

  /** @param base see patientsOf */
  constructor(type: string, base: URL) {
    this.#type = type;
    this.base = base;
    this.#members = referringMembers(type);
  }

  /** The ids of the patients; one may occur several times. @throws ScanError where a value is not JSON */
  patientsIn(table: PageTable, row: number): string[] {
    const ids: string[] = [];
    this.#find(table, row, ids);
    return ids;
  }

  /** Whether the row is in the compartment of one of `patients`, or, without them, of any patient. It stops at the
   *  first.
   *  @throws ScanError where a value is not JSON */
  has(table: PageTable, row: number, patients?: PatientSet): boolean {
    return this.#find(table, row, patients);
  }

  #find(table: PageTable, row: number, wanted: WantedPatients): boolean {
    if (this.#type === "Patient" && isWantedPatient(table.id(row), wanted)) return true;
    for (let index = 0; index < this.#members.length; index++) {
      const reference = table.reference(row, index);
      if (reference === "none") continue;
      if (reference === "parse" || !this.#members[index]!.refers) {
        if (this.#findParsed(table, row, index, wanted)) return true;
      } else if (wanted === undefined) return true;
      else if (wanted instanceof PatientSet) {
        if (wanted.hasAt(table.bytes, reference.from, reference.to)) return true;
      } else wanted.push(ascii(table.bytes, reference.from, reference.to));
    }
    return false;
  }

  #findParsed(table: PageTable, row: number, index: number, wanted: WantedPatients): boolean {
    const value = parseMember(table, row, index);
    for (const path of this.#members[index]!.below)
      for (const found of valuesAt(value, path)) {
        const id = patientId((found as { reference?: unknown } | null)?.reference, this.base);
        if (id && isWantedPatient(id, wanted)) return true;
      }
    return false;
  }
}

function isWantedPatient(id: string, wanted: WantedPatients): boolean {
  if (wanted === undefined) return true;
  if (wanted instanceof PatientSet) return wanted.has(id);
  wanted.push(id);
  return false;
}

/** A set of patient ids that is asked about bytes. Most ids that are not in it are refused by a hash of their bytes,
 *  without becoming a string: to make a string, and to look it up in a Set that the processor's caches do not hold,
 *  takes 300 ns, a tenth of the worker's time for a resource. */
export class PatientSet {
  readonly #ids: ReadonlySet<string>;
  /** the bits at the hashes of the ids are set; there are 16 to 32 bits for each id */
  readonly #bits: Int32Array;

  constructor(ids: Iterable<string>) {
    this.#ids = new Set(ids);
    this.#bits = new Int32Array(1 << Math.ceil(Math.log2(Math.max(this.#ids.size, 2) / 2)));
    for (const id of this.#ids) {
      const bytes = Buffer.from(id);
      const hash = hashOfId(bytes, 0, bytes.length);
      this.#bits[(hash >>> 5) & (this.#bits.length - 1)]! |= 1 << (hash & 31);
    }
  }

  get size(): number {
    return this.#ids.size;
  }
  has(id: string): boolean {
    return this.#ids.has(id);
  }
  /** Whether the set has the id in the bytes [from, to), which must be ASCII. */
  hasAt(bytes: Buffer, from: number, to: number): boolean {
    const hash = hashOfId(bytes, from, to);
    if ((this.#bits[(hash >>> 5) & (this.#bits.length - 1)]! & (1 << (hash & 31))) === 0) return false;
    return this.#ids.has(ascii(bytes, from, to));
  }
}

/** A hash of the first and the last 8 bytes, since ids differ there. */
function hashOfId(bytes: Uint8Array, from: number, to: number): number {
  let hash = to - from;
  for (let i = Math.min(from + 8, to) - 1; i >= from; i--) hash = Math.imul(hash ^ bytes[i]!, 0x0100_0193);
  for (let i = Math.max(to - 8, from); i < to; i++) hash = Math.imul(hash ^ bytes[i]!, 0x0100_0193);
  return hash ^ (hash >>> 15);
}

/** A member of a resource of one type below which compartment elements are. */
interface Member {
  name: string;
  /** the paths from its value to the elements that refer */
  below: string[][];
  /** whether its value itself refers, or the elements of the list that it is */
  refers: boolean;
}
const membersByType = new Map<string, Member[]>();

function referringMembers(type: string): Member[] {
  const known = membersByType.get(type);
  if (known) return known;
  const members: Member[] = [];
  for (const path of new Set(Object.values(compartment[type] ?? {}).flat())) {
    const [name, ...below] = path.split(".") as [string, ...string[]];
    const member = members.find((other) => other.name === name);
    if (member) member.below.push(below);
    else members.push({ name, below: [below], refers: below.length === 0 });
  }
  membersByType.set(type, members);
  return members;
}

function parseMember(table: PageTable, row: number, index: number): unknown {
  const { from, to } = table.member(row, index)!;
  try {
    return JSON.parse(table.bytes.toString("utf8", from, to));
  } catch {
    // The message of JSON.parse is not used, since it would show content.
    throw new ScanError("syntax", "a resource of the page is not JSON");
  }
}

/** The id of the patient to which a reference refers: `Patient/x`, `Patient/x/_history/1`, or one of them below
 *  `base`. */
export const patientId = (reference: unknown, base: URL): string | undefined => referredId("Patient", reference, base);

/** The id of the resource to which a reference refers, where it is of `type`. */
export function referredId(type: string, reference: unknown, base: URL): string | undefined {
  if (typeof reference !== "string") return undefined;
  const relative = reference.startsWith(base.href) ? reference.slice(base.href.length) : reference;
  const [, found, id] =
    /^([A-Z][A-Za-z]+)\/([A-Za-z0-9\-.]{1,64})(?:\/_history\/[A-Za-z0-9\-.]{1,64})?$/.exec(relative) ?? [];
  return found === type ? id : undefined;
}

const referencesOf = (resource: unknown, paths: readonly string[]): unknown[] =>
  paths.flatMap((path) => valuesAt(resource, path.split(".")));

/** The values at a path, which goes through every element of a list on its way. */
function valuesAt(value: unknown, path: string[]): unknown[] {
  if (Array.isArray(value)) return value.flatMap((item) => valuesAt(item, path));
  const [name, ...rest] = path;
  if (name === undefined) return value === undefined ? [] : [value];
  if (typeof value !== "object" || value === null) return [];
  return valuesAt((value as Record<string, unknown>)[name], rest);
}
