/** What a Reference refers to, as far as its bytes tell:
 *  - a type and an id: a resource of the source.
 *  - "none": no resource of the source: a contained one, or nothing at all.
 *  - Unclear: only the source, or nobody, can tell. */
export type Referred = { type: string; id: string } | "none" | Unclear;

/** A reference that may lead to a resource of the source. */
export interface Unclear {
  unclear: {
    /** of the resource, as far as it is known */
    type?: string;
    /** of an address elsewhere: the base URL of its server */
    base?: string;
    /** the id that it has if the source is meant: of an address elsewhere, or of a URN */
    id?: string;
    /** The id is the whole of a URN, which may just as well be known to the source by other means. */
    isURN?: true;
    /** value of the search parameter `identifier` */
    identifier?: string;
  };
}

/** How a server's ids look is its own affair: FHIR allows 64 of [A-Za-z0-9.-], and servers keep others. */
const relative = /^([A-Z][A-Za-z]+)\/([^\s/?#]{1,128})(?:\/_history\/[^\s/?#]{1,128})?$/;
const elsewhere =
  /^([A-Za-z][A-Za-z0-9+.-]*:\/\/.*\/)([A-Z][A-Za-z]+)\/([^\s/?#]{1,128})(?:\/_history\/[^\s/?#]{1,128})?$/;

/** The names by which a server calls itself. An absolute reference below one of them is one to the server itself. */
export class ServerNames {
  /** base URLs, each with a slash at its end */
  readonly #bases: readonly string[];

  /** @param base the source's base URL, with a slash at its end
   *  @param others base URLs that the server itself uses: in its links, in its CapabilityStatement */
  constructor(base: URL, others: readonly string[] = []) {
    this.#bases = [...new Set([base.href, ...others.flatMap((text) => spellings(text))])];
  }

  /** What a reference refers to. */
  follow(text: string): Referred {
    if (text === "" || text.startsWith("#")) return "none";
    const base = this.#bases.find((one) => text.startsWith(one));
    const below = base !== undefined ? text.slice(base.length) : text.replace(/^\/(?!\/)/, "");
    const [, type, id] = relative.exec(below) ?? [];
    if (type !== undefined) return { type, id: id! };
    const [, other] = /^([A-Z][A-Za-z]+)\//.exec(below) ?? [];
    if (other !== undefined && other !== "Patient") return "none";
    const [, foreign, foreignType, foreignId] = elsewhere.exec(below) ?? [];
    if (foreign !== undefined) return { unclear: { type: foreignType!, base: foreign, id: foreignId! } };
    const urn = /^urn:(?:uuid|oid):([^\s/?#]{1,128})$/i.exec(below)?.[1];
    if (urn !== undefined) return { unclear: { id: urn, isURN: true } };
    const [, conditional, query = ""] = /^([A-Z][A-Za-z]+)\?(.*)$/.exec(below) ?? [];
    const identifier = new URLSearchParams(query).get("identifier");
    return { unclear: { ...(conditional !== undefined && { type: conditional }), ...(identifier && { identifier }) } };
  }

  /** What an element of the type Reference refers to.
   *  @param value the element, as parsed */
  read(value: unknown): Referred {
    if (typeof value !== "object" || value === null) return "none";
    const { reference, identifier, type } = value as Record<string, unknown>;
    const isText = typeof reference === "string" && reference !== "";
    const referred = isText ? this.follow(reference) : isSet(identifier) ? byIdentifier(identifier) : "none";
    if (referred === "none" || !("unclear" in referred) || typeof type !== "string") return referred;
    return { unclear: { type: type.split("/").at(-1)!, ...referred.unclear } };
  }

  /** The same where only patients matter. */
  readPatient(value: unknown): Referred {
    const referred = this.read(value);
    const { type = "Patient" } = referred === "none" ? {} : "unclear" in referred ? referred.unclear : referred;
    return type === "Patient" ? referred : "none";
  }

  /** The id of the resource of `type` to which a value refers without doubt. */
  idOf(type: string, value: unknown): string | undefined {
    const referred = this.read(value);
    return typeof referred === "object" && "id" in referred && referred.type === type ? referred.id : undefined;
  }
}

const isSet = (value: unknown): boolean => value !== undefined && value !== null;

function byIdentifier(identifier: unknown): Unclear {
  const { system, value } = identifier as { system?: unknown; value?: unknown };
  if (typeof value !== "string" || value === "") return { unclear: {} };
  const token = typeof system === "string" ? `${escapeValue(system)}|${escapeValue(value)}` : escapeValue(value);
  return { unclear: { identifier: token } };
}

/** A part of a search value in which `,`, `|` and `$` mean nothing (FHIR search, "Escaping Search Parameters"). */
export const escapeValue = (text: string): string => text.replace(/[\\,|$]/g, "\\$&");

/** The spellings of a base URL under which a server may be referred to: by http and https, as proxies end TLS. */
function spellings(text: string): string[] {
  if (!URL.canParse(text)) return [];
  const url = new URL(text);
  if (url.protocol !== "http:" && url.protocol !== "https:") return [];
  const path = url.pathname.endsWith("/") ? url.pathname : `${url.pathname}/`;
  return url.port === "" ? [`http://${url.host}${path}`, `https://${url.host}${path}`] : [`${url.origin}${path}`];
}

/** The base URL in a self link of a search of `type`; undefined where it does not lead to the type. */
export function baseOf(selfLink: string | undefined, type: string): string | undefined {
  if (selfLink === undefined || !URL.canParse(selfLink)) return undefined;
  const { origin, pathname } = new URL(selfLink);
  const tail = new RegExp(`/${type}(?:/_search)?/?$`).exec(pathname);
  return tail ? `${origin}${pathname.slice(0, tail.index)}/` : undefined;
}
