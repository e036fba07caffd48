import { ScanError } from "../scan/page.ts";
import type { PageTable } from "../scan/table.ts";
import { ascii } from "../scan/text.ts";
import table from "./patient-compartment.json" with { type: "json" };

/** The R4 Patient compartment, from the specification's CompartmentDefinition/patient 4.0.1 and the expressions of the
 *  search parameters it names: type -> search parameter -> elements. A resource is in a patient's compartment when one
 *  of these elements refers to the patient. */
const compartment: Record<string, Record<string, string[]>> = table;

export const compartmentTypes: ReadonlySet<string> = new Set(Object.keys(compartment));

/** Ids of the patients in whose compartment the resource is: by compartment element, never by any other reference.
 *  @param base the source's base URL: an absolute reference counts only when it leads there */
export function patientsOf(resource: Record<string, unknown>, base: URL): Set<string> {
  const type = String(resource.resourceType);
  const ids = new Set<string>();
  if (type === "Patient" && typeof resource.id === "string") ids.add(resource.id);
  for (const parameter of Object.keys(compartment[type] ?? {}))
    for (const id of patientsBy(resource, parameter, base)) ids.add(id);
  return ids;
}

/** Search parameters that together find what is in a patient's compartment; one whose elements others have, too, is
 *  left out. */
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

/** Ids of the patients that the elements of one of the compartment's parameters refer to. */
export const patientsBy = (resource: Record<string, unknown>, parameter: string, base: URL): string[] =>
  referencesOf(resource, compartment[String(resource.resourceType)]?.[parameter] ?? [])
    .map((reference) => patientId((reference as { reference?: unknown } | null)?.reference, base))
    .filter((id) => id !== undefined);

/** Whether a compartment element refers in a way that only its server can resolve: to another address, by URN, by
 *  identifier. */
export function isUnclear(resource: Record<string, unknown>, base: URL): boolean {
  const paths = Object.values(compartment[String(resource.resourceType)] ?? {}).flat();
  return referencesOf(resource, paths).some((value) => {
    const { reference, identifier } = (value ?? {}) as { reference?: unknown; identifier?: unknown };
    if (typeof reference !== "string") return identifier !== undefined;
    return !reference.startsWith("#") && !reference.startsWith(base.href) && !/^[A-Z][A-Za-z]+\//.test(reference);
  });
}

/** Names of the members under which a resource of the type refers to patients, for `Expected.members`. */
export const membersOf = (type: string): string[] => membersFor(type).map(({ name }) => name);

/** As `patientsOf`, of a row whose table expects this type and `membersOf` it, and which has an id; not the resource is
 *  parsed but what of it refers, and that only where its bytes are not as servers write them. Ids may repeat.
 *  @throws ScanError when a value is not JSON */
export function patientsIn(table: PageTable, row: number, type: string, base: URL): string[] {
  const ids: string[] = [];
  find(table, row, type, base, undefined, ids);
  return ids;
}

/** Whether `patientsIn` has any of `patients`, or any at all: stops at the first.
 *  @throws ScanError likewise */
export const isInCompartment = (
  table: PageTable,
  row: number,
  type: string,
  base: URL,
  patients?: PatientSet,
): boolean => find(table, row, type, base, patients, undefined);

/** Adds the patients to `ids`; else looks for one of `patients`. */
function find(
  table: PageTable,
  row: number,
  type: string,
  base: URL,
  patients: PatientSet | undefined,
  ids: string[] | undefined,
): boolean {
  if (type === "Patient" && isFound(table.id(row), patients, ids)) return true;
  const members = membersFor(type);
  for (let index = 0; index < members.length; index++) {
    const reference = table.reference(row, index);
    if (reference === "none") continue;
    const { below, refers } = members[index]!;
    if (refers && reference !== "parse") {
      // without its text when any will do
      if (!patients && !ids) return true;
      if (ids) ids.push(ascii(table.bytes, reference.from, reference.to));
      else if (patients!.hasAt(table.bytes, reference.from, reference.to)) return true;
      continue;
    }
    const value = parse(table, row, index);
    for (const path of below)
      for (const found of valuesAt(value, path)) {
        const id = patientId((found as { reference?: unknown } | null)?.reference, base);
        if (id && isFound(id, patients, ids)) return true;
      }
  }
  return false;
}

function isFound(id: string, patients: PatientSet | undefined, ids: string[] | undefined): boolean {
  if (!ids) return !patients || patients.has(id);
  ids.push(id);
  return false;
}

/** Ids that are looked for in bytes: of those that are not here, few become a string. (To make one and to look it up in
 *  a Set that the caches do not hold takes 300 ns, a tenth of what the worker has for a resource.) */
export class PatientSet {
  readonly #ids: ReadonlySet<string>;
  /** a bit for each hash of an id; 16 to 32 for each id */
  readonly #bits: Int32Array;

  constructor(ids: Iterable<string>) {
    this.#ids = new Set(ids);
    this.#bits = new Int32Array(1 << Math.ceil(Math.log2(Math.max(this.#ids.size, 2) / 2)));
    for (const id of this.#ids) {
      const bytes = Buffer.from(id);
      const hash = hashOf(bytes, 0, bytes.length);
      this.#bits[(hash >>> 5) & (this.#bits.length - 1)]! |= 1 << (hash & 31);
    }
  }

  get size(): number {
    return this.#ids.size;
  }
  has(id: string): boolean {
    return this.#ids.has(id);
  }
  /** @param from of bytes that are ASCII */
  hasAt(bytes: Buffer, from: number, to: number): boolean {
    const hash = hashOf(bytes, from, to);
    if ((this.#bits[(hash >>> 5) & (this.#bits.length - 1)]! & (1 << (hash & 31))) === 0) return false;
    return this.#ids.has(ascii(bytes, from, to));
  }
}

/** Of the first and the last 8 bytes: ids differ there. */
function hashOf(bytes: Uint8Array, from: number, to: number): number {
  let hash = to - from;
  for (let i = Math.min(from + 8, to) - 1; i >= from; i--) hash = Math.imul(hash ^ bytes[i]!, 0x0100_0193);
  for (let i = Math.max(to - 8, from); i < to; i++) hash = Math.imul(hash ^ bytes[i]!, 0x0100_0193);
  return hash ^ (hash >>> 15);
}

interface Member {
  name: string;
  /** paths in its value to what refers */
  below: string[][];
  /** that is the value itself, or the elements of a list */
  refers: boolean;
}
const memo = new Map<string, Member[]>();

function membersFor(type: string): Member[] {
  const known = memo.get(type);
  if (known) return known;
  const members: Member[] = [];
  for (const path of new Set(Object.values(compartment[type] ?? {}).flat())) {
    const [name, ...below] = path.split(".") as [string, ...string[]];
    const member = members.find((other) => other.name === name);
    if (member) member.below.push(below);
    else members.push({ name, below: [below], refers: below.length === 0 });
  }
  memo.set(type, members);
  return members;
}

function parse(table: PageTable, row: number, index: number): unknown {
  const { from, to } = table.member(row, index)!;
  try {
    return JSON.parse(table.bytes.toString("utf8", from, to));
  } catch {
    // its own message would show content
    throw new ScanError("syntax", "a resource of the page is not JSON");
  }
}

/** The id in `Patient/x`, `Patient/x/_history/1` or the same below `base`. */
export const patientId = (reference: unknown, base: URL): string | undefined => referredId("Patient", reference, base);

export function referredId(type: string, reference: unknown, base: URL): string | undefined {
  if (typeof reference !== "string") return undefined;
  const relative = reference.startsWith(base.href) ? reference.slice(base.href.length) : reference;
  const [, found, id] =
    /^([A-Z][A-Za-z]+)\/([A-Za-z0-9\-.]{1,64})(?:\/_history\/[A-Za-z0-9\-.]{1,64})?$/.exec(relative) ?? [];
  return found === type ? id : undefined;
}

const referencesOf = (resource: unknown, paths: readonly string[]): unknown[] =>
  paths.flatMap((path) => valuesAt(resource, path.split(".")));

function valuesAt(value: unknown, path: string[]): unknown[] {
  if (Array.isArray(value)) return value.flatMap((item) => valuesAt(item, path));
  const [name, ...rest] = path;
  if (name === undefined) return value === undefined ? [] : [value];
  if (typeof value !== "object" || value === null) return [];
  return valuesAt((value as Record<string, unknown>)[name], rest);
}
