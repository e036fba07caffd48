import { withoutTrailingSlash } from "../url.ts";

/** A CapabilityStatement as servers send it: any element may be missing, null or something else. */
export interface Statement {
  resourceType?: unknown;
  fhirVersion?: unknown;
  implementation?: unknown;
  rest?: unknown;
}

/** What a CapabilityStatement says of one type. */
export interface StatedType {
  type: string;
  /** codes such as `search-type` or `history-type` */
  interactions: ReadonlySet<string>;
  /** the names of its search parameters */
  parameters: ReadonlySet<string>;
}

/** They have no resources of their own. */
const abstractTypes = new Set(["Resource", "DomainResource"]);

/** The types that a CapabilityStatement lists for its server; what it says of clients does not count. */
export function statedTypes({ rest }: Statement): StatedType[] {
  return objectsIn(rest)
    .filter(({ mode }) => mode !== "client")
    .flatMap(({ resource }) => objectsIn(resource))
    .flatMap(({ type, interaction, searchParam }) =>
      typeof type !== "string" || abstractTypes.has(type)
        ? []
        : [{ type, interactions: textsIn(interaction, "code"), parameters: textsIn(searchParam, "name") }],
    );
}

const objectsIn = (list: unknown): Record<string, unknown>[] =>
  Array.isArray(list) ? list.filter((item) => typeof item === "object" && item !== null) : [];

const textsIn = (list: unknown, name: string): Set<string> =>
  new Set(objectsIn(list).flatMap((item) => (typeof item[name] === "string" ? [item[name]] : [])));

/** The types for which an interaction such as `search-type` is listed. */
export const typesWith = (stated: readonly StatedType[], interaction: string): Set<string> =>
  new Set(stated.filter(({ interactions }) => interactions.has(interaction)).map(({ type }) => type));

const statementTimeoutMs = 5000;
/** HAPI's CapabilityStatement has 2 MB, with all search parameters of R4. */
const maxStatementBytes = 32 << 20;

/** The types that a server lists as searchable in its `/metadata`, which is read without credentials: SMART and most
 *  servers leave it open.
 *  @returns undefined where the server refuses, or answers anything but a CapabilityStatement that lists searchable
 *    types
 *  @throws where the server does not answer within 5 s, redirects, or sends what is no JSON */
export async function publicTypes(baseURL: string): Promise<ReadonlySet<string> | undefined> {
  const response = await fetch(`${withoutTrailingSlash(baseURL)}/metadata`, {
    headers: { accept: "application/fhir+json" },
    redirect: "error",
    signal: AbortSignal.timeout(statementTimeoutMs),
  });
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const part of response.body ?? []) {
    bytes += part.length;
    if (bytes > maxStatementBytes) return undefined;
    parts.push(part);
  }
  if (!response.ok) return undefined;
  const statement = JSON.parse(Buffer.concat(parts).toString()) as Statement | null;
  if (statement?.resourceType !== "CapabilityStatement") return undefined;
  const types = typesWith(statedTypes(statement), "search-type");
  return types.size > 0 ? types : undefined;
}
