import type { Unclear } from "../../fhir/references.ts";
import type { PageTable } from "../../scan/table.ts";
import { PatientQuestions } from "../patient-questions.ts";
import type { ExportRun } from "../run.ts";
import { membersIn, parseResource } from "./owner.ts";
import type { RowVerdict } from "./verdict.ts";

// A reference by another address, a URN or an identifier may lead to a patient of the source. Only the source can tell,
// so it is asked for the resource by the patient who may be meant. What it does not find then is left out, and told,
// unless it is sure that no patient of the export is meant.

/** Rows that are asked about at a time: the ids of so many resources and patients fit into one URL. */
const rowsAtATime = 25;

/** A row whose patients are unclear: its references that are, each with its search parameter. */
export interface UnclearRow {
  id: string;
  references: { parameter: string; reference: Unclear }[];
}

/** The answers about one reference: which patients may be meant. "unknown": nobody can tell. */
type Candidates = ReadonlySet<string> | "unknown";

/** Gives `RowSelector.ask` for the shards of a type. An unclear row, and those behind it on its page, are asked about
 *  together, and the answers are kept until the next rows are asked about. */
export function askerOf(run: ExportRun, type: string): (table: PageTable, row: number) => Promise<RowVerdict> {
  const patients = run.cohort && membersIn(run.cohort).set;
  const questions = new PatientQuestions(run.work.source);
  const isMember = (id: string) => patients?.has(id) ?? true;
  let answers = new Map<string, RowVerdict>();
  return async (table, row) => {
    const known = answers.get(table.id(row));
    if (known !== undefined) return known;
    const rows: UnclearRow[] = [];
    for (let at = row; at < table.count && rows.length < rowsAtATime; at++) {
      if (table.type(at) !== type || table.id(at) === "") continue;
      const resource = parseIfPossible(table.resource(at));
      const references = resource ? run.compartment.unclearOf(resource) : [];
      // Where a clear reference puts it into a compartment of the export, nobody needs to be asked.
      const isClear = resource && [...run.compartment.patientsOf(resource)].some(isMember);
      if (references.length > 0 && !isClear) rows.push({ id: table.id(at), references });
    }
    answers = await decideUnclear(rows, { type, questions, isMember });
    return answers.get(table.id(row)) ?? "left";
  };
}

/** A row that is not JSON is told when its turn comes. */
function parseIfPossible(resource: Buffer): Record<string, unknown> | undefined {
  try {
    return parseResource(resource);
  } catch {
    return undefined;
  }
}

interface Asked {
  type: string;
  questions: PatientQuestions;
  isMember: (id: string) => boolean;
}

/** 1. Which patients may each reference mean? Of those the members of the export count.
 *  2. Which of the rows does the source find by them, with the parameter of the reference? These are lines.
 *  3. A row that may mean somebody, and is not found, is left out and told. One that means nobody is passed over. */
export async function decideUnclear(
  rows: readonly UnclearRow[],
  { type, questions, isMember }: Asked,
): Promise<Map<string, RowVerdict>> {
  const all = rows.flatMap(({ references }) => references.map(({ reference }) => reference));
  const known = await questions.candidates(all);
  const candidatesOf = (reference: Unclear): Candidates => {
    const ids = known.get(reference)!;
    return ids === "unknown" ? ids : new Set([...ids].filter(isMember));
  };
  const mayMean = (reference: Unclear) => {
    const candidates = candidatesOf(reference);
    return candidates === "unknown" || candidates.size > 0;
  };
  const found = new Set<string>();
  const parameters = new Set(rows.flatMap(({ references }) => references.map(({ parameter }) => parameter)));
  for (const parameter of parameters) {
    const ids: string[] = [];
    const patients = new Set<string>();
    for (const row of rows)
      for (const { reference } of row.references.filter((one) => one.parameter === parameter)) {
        const candidates = candidatesOf(reference);
        if (candidates === "unknown" || candidates.size === 0) continue;
        ids.push(row.id);
        for (const id of candidates) patients.add(id);
      }
    if (ids.length > 0) for (const id of await questions.finds(type, parameter, patients, new Set(ids))) found.add(id);
  }
  return new Map(
    rows.map(({ id, references }): [string, RowVerdict] => {
      if (found.has(id)) return [id, "line"];
      return [id, references.some(({ reference }) => mayMean(reference)) ? "left" : "pass"];
    }),
  );
}
