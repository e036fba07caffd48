import { ScanError } from "../scan/page.ts";
import type { PageTable } from "../scan/table.ts";
import { ascii } from "../scan/text.ts";
import type { ServerNames, Unclear } from "./references.ts";
import { type Definitions, definitionsOf, type FHIRRelease } from "./release.ts";

/** What of a resource is in which patients' compartments, in one release of FHIR and for one server. */
export class PatientCompartment {
  readonly release: FHIRRelease;
  readonly names: ServerNames;
  readonly #definition: Definitions["compartment"];
  readonly #members = new Map<string, Member[]>();

  constructor(release: FHIRRelease, names: ServerNames) {
    this.release = release;
    this.names = names;
    this.#definition = definitionsOf(release).compartment;
  }

  hasType(type: string): boolean {
    return type in this.#definition;
  }

  /** The ids of the patients in whose compartment a parsed resource is, as far as its references tell. Only the
   *  elements of the compartment count, no other reference. */
  patientsOf(resource: Record<string, unknown>): Set<string> {
    const type = String(resource.resourceType);
    const ids = new Set<string>();
    if (type === "Patient" && typeof resource.id === "string") ids.add(resource.id);
    for (const parameter of Object.keys(this.#definition[type] ?? {}))
      for (const id of this.patientsBy(resource, parameter)) ids.add(id);
    return ids;
  }

  /** The search parameters that together find everything of a type that is in a patient's compartment. A parameter is
   *  left out where another one has all of its elements. */
  parameters(type: string): string[] {
    const parameters = Object.entries(this.#definition[type] ?? {});
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

  /** The ids of the patients to which the elements of one search parameter refer. */
  patientsBy(resource: Record<string, unknown>, parameter: string): string[] {
    return this.#valuesBy(resource, parameter)
      .map((value) => this.names.idOf("Patient", value))
      .filter((id) => id !== undefined);
  }

  /** The references to patients that only the source can resolve, by search parameter: to another address, by URN or by
   *  identifier. */
  unclearOf(resource: Record<string, unknown>): { parameter: string; reference: Unclear }[] {
    return this.parameters(String(resource.resourceType)).flatMap((parameter) =>
      this.#valuesBy(resource, parameter).flatMap((value) => {
        const reference = this.names.readPatient(value);
        return typeof reference === "object" && "unclear" in reference ? [{ parameter, reference }] : [];
      }),
    );
  }

  #valuesBy(resource: Record<string, unknown>, parameter: string): unknown[] {
    const paths = this.#definition[String(resource.resourceType)]?.[parameter] ?? [];
    return paths.flatMap((path) => valuesAt(resource, path.split(".")));
  }

  /** The names of the members below which a resource of the type refers to patients, for `Expected.members` of the
   *  scanner. */
  membersOf(type: string): string[] {
    return this.referringMembers(type).map(({ name }) => name);
  }

  referringMembers(type: string): readonly Member[] {
    const known = this.#members.get(type);
    if (known) return known;
    const members: Member[] = [];
    for (const path of new Set(Object.values(this.#definition[type] ?? {}).flat())) {
      const [name, ...below] = path.split(".") as [string, ...string[]];
      const member = members.find((other) => other.name === name);
      if (member) member.below.push(below);
      else members.push({ name, below: [below], refers: below.length === 0 });
    }
    this.#members.set(type, members);
    return members;
  }
}

/** What is looked for in a row: one of these patients, all patients (their ids are added to the list), or, undefined,
 *  any patient at all. */
type WantedPatients = PatientSet | string[] | undefined;

/** Whether a resource is in a compartment. "unclear": none of its references says so, and one of them may. */
export type InCompartment = "in" | "out" | "unclear";

/** Finds the patients in whose compartment the resources of one type are, in the rows of a page's table. It gives what
 *  `patientsOf` gives for the parsed resource, but parses only those members of a resource that refer, and only where
 *  the scanner did not recognise their bytes. The table must have been made to expect this type and its `membersOf`,
 *  and a row must have an id. */
export class CompartmentRows {
  readonly #type: string;
  readonly #names: ServerNames;
  readonly #members: readonly Member[];

  constructor(type: string, compartment: PatientCompartment) {
    this.#type = type;
    this.#names = compartment.names;
    this.#members = compartment.referringMembers(type);
  }

  /** The ids of the patients; one may occur several times.
   *  @returns also whether the row has references that only the source can resolve
   *  @throws ScanError where a value is not JSON */
  patientsIn(table: PageTable, row: number): { ids: string[]; isUnclear: boolean } {
    const ids: string[] = [];
    return { ids, isUnclear: this.#find(table, row, ids) === "unclear" };
  }

  /** Whether the row is in the compartment of one of `patients`, or, without them, of any patient. It stops at the
   *  first.
   *  @throws ScanError where a value is not JSON */
  has(table: PageTable, row: number, patients?: PatientSet): InCompartment {
    return this.#find(table, row, patients);
  }

  #find(table: PageTable, row: number, wanted: WantedPatients): InCompartment {
    let found: InCompartment = "out";
    if (this.#type === "Patient" && isWantedPatient(table.id(row), wanted)) return "in";
    for (let index = 0; index < this.#members.length; index++) {
      const reference = table.reference(row, index);
      if (reference === "none") continue;
      if (reference === "parse" || !this.#members[index]!.refers) {
        const parsed = this.#findParsed(table, row, index, wanted);
        if (parsed === "in") return "in";
        if (parsed === "unclear") found = parsed;
      } else if (wanted === undefined) return "in";
      else if (wanted instanceof PatientSet) {
        if (wanted.hasAt(table.bytes, reference.from, reference.to)) return "in";
      } else wanted.push(ascii(table.bytes, reference.from, reference.to));
    }
    return found;
  }

  #findParsed(table: PageTable, row: number, index: number, wanted: WantedPatients): InCompartment {
    const value = parseMember(table, row, index);
    let result: InCompartment = "out";
    for (const path of this.#members[index]!.below)
      for (const found of valuesAt(value, path)) {
        const referred = this.#names.readPatient(found);
        if (referred === "none") continue;
        if ("unclear" in referred) result = "unclear";
        else if (isWantedPatient(referred.id, wanted)) return "in";
      }
    return result;
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

function parseMember(table: PageTable, row: number, index: number): unknown {
  const { from, to } = table.member(row, index)!;
  try {
    return JSON.parse(table.bytes.toString("utf8", from, to));
  } catch {
    // The message of JSON.parse is not used, since it would show content.
    throw new ScanError("syntax", "a resource of the page is not JSON");
  }
}

/** The values at a path, which goes through every element of a list on its way. */
export function valuesAt(value: unknown, path: string[]): unknown[] {
  if (Array.isArray(value)) return value.flatMap((item) => valuesAt(item, path));
  const [name, ...rest] = path;
  if (name === undefined) return value === undefined ? [] : [value];
  if (typeof value !== "object" || value === null) return [];
  return valuesAt((value as Record<string, unknown>)[name], rest);
}
