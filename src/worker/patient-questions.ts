import type { SourceClient } from "../fhir/client.ts";
import { probePage, type ReadPage } from "../fhir/reads.ts";
import { escapeValue, type Unclear } from "../fhir/references.ts";
import { ignoredParameters, type Search, searchURL } from "../fhir/search.ts";

/** Identifiers that one search names. */
const identifiersAtATime = 20;
/** Identifiers of which is kept who has them: practitioners and devices come again and again. */
const keptIdentifiers = 10_000;
/** Whoever finds this patient ignores what is asked for. */
const nobody = "fhir-export-nobody-has-this-id";

interface IdentifiedPatient {
  id?: unknown;
  identifier?: unknown;
}

/** Asks the source what a reference by another address, a URN or an identifier means to it. Each answer is checked:
 *  servers ignore parameters that they do not know. */
export class PatientQuestions {
  readonly #source: SourceClient;
  /** identifier -> ids of the patients who have it; "unknown" where the source does not tell */
  readonly #byIdentifier = new Map<string, ReadonlySet<string> | "unknown">();
  readonly #exists = new Map<string, boolean>();
  readonly #finds = new Map<string, boolean>();

  constructor(source: SourceClient) {
    this.#source = source;
  }

  /** The patients of the source who may be meant by each reference: those who have its id, or its identifier.
   *  "unknown": a URN means nothing to us, and who has an identifier is not always told. */
  async candidates(references: readonly Unclear[]): Promise<Map<Unclear, ReadonlySet<string> | "unknown">> {
    const of = ({ unclear }: Unclear) => unclear;
    await this.#askIdentifiers(references.flatMap((one) => of(one).identifier ?? []));
    await this.#askIds(references.flatMap((one) => of(one).id ?? []));
    return new Map(
      references.map((reference) => {
        const { id, isURN, identifier } = of(reference);
        if (identifier !== undefined) return [reference, this.#byIdentifier.get(identifier) ?? "unknown"];
        if (id === undefined) return [reference, "unknown"];
        const isThere = this.#exists.get(id);
        if (isThere === true) return [reference, new Set([id])];
        return [reference, isURN || isThere === undefined ? "unknown" : new Set<string>()];
      }),
    );
  }

  /** Which of the resources the source finds by these patients. */
  async finds(
    type: string,
    parameter: string,
    patients: ReadonlySet<string>,
    ids: ReadonlySet<string>,
  ): Promise<Set<string>> {
    const key = `${type} ${parameter}`;
    const by = (values: Iterable<string>) => ({ parameter, values: [...values].map((id) => `Patient/${id}`) });
    let isKnown = this.#finds.get(key);
    if (isKnown === undefined) {
      const answer = await this.#ask({ type, by: by([nobody]), count: 1 }, [parameter]);
      isKnown = answer !== undefined && dataOf(answer).length === 0;
      this.#finds.set(key, isKnown);
    }
    if (!isKnown) return new Set();
    const filter = `_id=${listOf([...ids].map(escapeValue))}`;
    const answer = await this.#ask({ type, by: by(patients), filter, count: ids.size }, [parameter, "_id"]);
    return new Set(
      answer &&
        dataOf(answer)
          .map(({ id }) => id)
          .filter((id) => ids.has(id)),
    );
  }

  async #askIdentifiers(identifiers: readonly string[]): Promise<void> {
    if (this.#byIdentifier.size > keptIdentifiers) this.#byIdentifier.clear();
    const open = [...new Set(identifiers)].filter((one) => !this.#byIdentifier.has(one));
    for (let at = 0; at < open.length; at += identifiersAtATime) {
      const some = open.slice(at, at + identifiersAtATime);
      const filter = `identifier=${listOf(some)}`;
      const answer = await this.#ask({ type: "Patient", filter, count: 10 * some.length }, ["identifier"]);
      const isWhole = answer !== undefined && answer.page.next === undefined;
      for (const one of some) this.#byIdentifier.set(one, isWhole ? whoHas(one, answer) : "unknown");
    }
  }

  async #askIds(ids: readonly string[]): Promise<void> {
    if (this.#exists.size > keptIdentifiers) this.#exists.clear();
    const open = [...new Set(ids)].filter((id) => !this.#exists.has(id));
    if (open.length === 0) return;
    const filter = `_id=${listOf(open.map(escapeValue))}`;
    const answer = await this.#ask({ type: "Patient", filter, count: open.length }, ["_id"]);
    if (!answer) return;
    const found = new Set(dataOf(answer).map(({ id }) => id));
    for (const id of open) this.#exists.set(id, found.has(id));
  }

  /** @param parameters that the self link must repeat @returns undefined where the source refuses or ignores them */
  async #ask(search: Search, parameters: readonly string[]): Promise<ReadPage | undefined> {
    const answer = await probePage(this.#source, searchURL(search));
    if (!("page" in answer)) return undefined;
    const names = parameters.map((name) => `${name}=`).join("&");
    return ignoredParameters(names, answer.page.self).length === 0 ? answer : undefined;
  }
}

/** The value of a filter's parameter. */
const listOf = (values: readonly string[]) => encodeURIComponent(values.join(","));

const dataOf = ({ page }: ReadPage) => page.entries.filter(({ mode }) => mode !== "outcome" && mode !== "include");

/** The ids of the patients on a page who have an identifier. A server may find others: by the value alone, or in
 *  another spelling. */
function whoHas(identifier: string, answer: ReadPage): ReadonlySet<string> {
  const ids = new Set<string>();
  for (const { start, end, type } of dataOf(answer)) {
    if (type !== "Patient") continue;
    const patient = JSON.parse(answer.bytes.toString("utf8", start, end)) as IdentifiedPatient;
    const all = Array.isArray(patient.identifier) ? patient.identifier : [];
    if (typeof patient.id === "string" && all.some((one) => isIdentifiedBy(one, identifier))) ids.add(patient.id);
  }
  return ids;
}

function isIdentifiedBy(one: unknown, token: string): boolean {
  const { system, value } = (one ?? {}) as { system?: unknown; value?: unknown };
  if (typeof value !== "string") return false;
  return (
    token === escapeValue(value) ||
    token === `${typeof system === "string" ? escapeValue(system) : ""}|${escapeValue(value)}`
  );
}
