import type { PageTable } from "../scan/table.ts";
import table from "./patient-compartment.json" with { type: "json" };

/** The R4 Patient compartment, from the specification's CompartmentDefinition/patient 4.0.1 and the expressions of the search parameters it
 *  names: type -> search parameter -> elements. A resource is in a patient's compartment when one of these elements refers to the patient. */
const compartment: Record<string, Record<string, string[]>> = table;

export const compartmentTypes: ReadonlySet<string> = new Set(Object.keys(compartment));

/** Ids of the patients in whose compartment the resource is: by compartment element, never by any other reference.
 *  @param base the source's base URL: an absolute reference counts only when it leads there */
export function patientsOf(resource: Record<string, unknown>, base: URL): Set<string> {
  const type = String(resource.resourceType);
  const ids = new Set<string>();
  if (type === "Patient" && typeof resource.id === "string") ids.add(resource.id);
  for (const paths of Object.values(compartment[type] ?? {}))
    for (const path of paths)
      for (const reference of valuesAt(resource, path.split("."))) {
        const id = patientId((reference as { reference?: unknown } | null)?.reference, base);
        if (id) ids.add(id);
      }
  return ids;
}

/** Names of the members under which a resource of the type refers to patients, for `Expected.members`. */
export function membersOf(type: string): string[] {
  return [...new Set(Object.values(compartment[type] ?? {}).flatMap((paths) => paths.map((path) => path.split(".")[0]!)))];
}

/** As `patientsOf`, of a row of a page whose table expects this type and `membersOf` it. The row has an id. Ids may repeat. */
export function patientsIn(table: PageTable, row: number, type: string, base: URL): string[] {
  const resource: Record<string, unknown> = { resourceType: type, id: table.id(row) };
  for (const [index, name] of membersOf(type).entries()) {
    const span = table.member(row, index);
    if (span) resource[name] = JSON.parse(table.bytes.toString("utf8", span.from, span.to)) as unknown;
  }
  return [...patientsOf(resource, base)];
}

/** The id in `Patient/x`, `Patient/x/_history/1` or the same below `base`. */
export function patientId(reference: unknown, base: URL): string | undefined {
  if (typeof reference !== "string") return undefined;
  const relative = reference.startsWith(base.href) ? reference.slice(base.href.length) : reference;
  return /^Patient\/([A-Za-z0-9\-.]{1,64})(?:\/_history\/[A-Za-z0-9\-.]{1,64})?$/.exec(relative)?.[1];
}

function valuesAt(value: unknown, path: string[]): unknown[] {
  if (Array.isArray(value)) return value.flatMap((item) => valuesAt(item, path));
  const [name, ...rest] = path;
  if (name === undefined) return value === undefined ? [] : [value];
  if (typeof value !== "object" || value === null) return [];
  return valuesAt((value as Record<string, unknown>)[name], rest);
}
