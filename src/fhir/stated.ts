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

/** Types of which a CapabilityStatement says that an interaction (`search-type`, `history-type`, …) is there. */
export const typesWith = ({ rest = [] }: Statement, interaction: string): Set<string> =>
  new Set(
    rest
      .flatMap(({ resource = [] }) => resource)
      .filter((resource) => resource.interaction?.some(({ code }) => code === interaction))
      .map(({ type }) => type),
  );

const statementTimeoutMs = 5000;
/** HAPI's is 2 MB, with all search parameters of R4 */
const maxStatementBytes = 32 << 20;

/** The types that a server tells everybody it can search: `/metadata` without credentials, which SMART and most servers
 *  leave open.
 *  @returns undefined when it does not say so: refused, away, too slow, no CapabilityStatement */
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
