import { withoutTrailingSlash } from "../url.ts";

interface StatedResource {
  type: string;
  interaction?: { code: string }[];
  searchParam?: { name: string }[];
}
export interface Statement {
  resourceType?: string;
  rest?: { resource?: StatedResource[] }[];
}

/** The types for which a CapabilityStatement lists an interaction such as `search-type` or `history-type`. */
export const typesWith = ({ rest = [] }: Statement, interaction: string): Set<string> =>
  new Set(
    rest
      .flatMap(({ resource = [] }) => resource)
      .filter((resource) => resource.interaction?.some(({ code }) => code === interaction))
      .map(({ type }) => type),
  );

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
  const types = typesWith(statement, "search-type");
  return types.size > 0 ? types : undefined;
}
