import { showURL, terminal } from "../failure.ts";

/** The parts of a URL that a request needs. */
export type Address = Readonly<Pick<URL, "href" | "origin" | "host" | "pathname" | "search">>;

/** What may follow the base URL in a link that needs no parsing: a path without dot segments, escapes and characters
 *  that a URL would escape, and a query without characters that it would escape (WHATWG URL, percent-encode sets). */
const plainLink =
  /^(?:[A-Za-z0-9_~:@!$&()*+,;=-][A-Za-z0-9_~:@!$&()*+,;=.-]*(?:\/|(?=\?)|$))*(?:\?[A-Za-z0-9_~:@!$&()*+,;=.%/?|-]+)?$/;
/** Longer links are no links that a server would take back. */
const maxLink = 65_536;

/** The page that names a link. */
export interface LinkedPage {
  /** the page was asked for at this address */
  asked: Address;
  /** its self link, if it is known already */
  self?: string | undefined;
}

/** Resolves links of the source. A page may not send us, and our credentials, to another server: every address that
 *  comes out is below `base`.
 *  @param base the source's base URL, with a slash at its end
 *  @param links `Strict`: a link must be below `base` as it stands. `Auto`: a server behind a proxy may call itself by
 *    another name; its links are then asked for at `base`.
 *  @returns gives the address of a link of a page; it throws terminal SourceInconsistent where the link is no URL, or
 *    leads away from `base` */
export function addresses(
  base: URL,
  links: "Auto" | "Strict" = "Strict",
): (link: string, page?: LinkedPage) => Address {
  const { href, origin, host, pathname } = base;
  const names = new OwnNames();
  return (link, page) => {
    // Most links are spelt as a URL would spell them. They are not parsed, which would take 15 us.
    if (link.startsWith(href) && link.length <= maxLink && plainLink.test(link.slice(href.length))) {
      const query = link.indexOf("?");
      const end = query < 0 ? link.length : query;
      return { href: link, origin, host, pathname: pathname + link.slice(href.length, end), search: link.slice(end) };
    }
    const url = parseLink(link, base, page);
    if (isBelow(url, base)) return url;
    const path = links === "Auto" && page ? belowOtherName(url, base, page, names) : undefined;
    // A link to the base itself has no slash at its end.
    const own =
      path === undefined
        ? undefined
        : new URL((path === "" ? pathname.replace(/(.)\/$/, "$1") : pathname + path) + url.search, base);
    if (own && isBelow(own, base)) return own;
    const mend = "name there the address that the server uses in its links, or set that address up in the server";
    throw terminal(
      "SourceInconsistent",
      `the source's next link leads to ${showURL(url.origin)}, away from spec.baseURL of the FhirSource (${showURL(base)}); ${
        links === "Auto" ? mend : `${mend}, or let spec.links of the FhirSource be Auto`
      }`,
    );
  };
}

/** @throws terminal SourceInconsistent */
function parseLink(link: string, base: URL, page: LinkedPage | undefined): URL {
  if (link.length > maxLink)
    throw terminal(
      "SourceInconsistent",
      "the source's next link is longer than 64 kB; set shorter links up in the server",
    );
  // A query alone is of the page that names it (RFC 3986 section 5.2.2); HAPI's `_getpages` is of the base.
  const isOfPage = link.startsWith("?") && !link.startsWith("?_getpages=");
  const url = URL.parse(link, isOfPage && page ? page.asked.href : base.href);
  if (url) return url;
  throw terminal(
    "SourceInconsistent",
    "the source's next link is no URL; check the address that the server, or the proxy before it, puts into its links",
  );
}

const isBelow = (url: URL, { origin, pathname }: URL): boolean =>
  url.origin === origin && `${url.pathname}/`.startsWith(pathname);

/** The addresses by which a server calls its base, as self links have told them. */
class OwnNames {
  readonly #known = new Map<string, string>();

  /** @param path of the base, without a slash at its end */
  learn({ origin }: URL, path: string): void {
    this.#known.set(origin, path);
  }

  /** The path of a link below the base; undefined where the link is below none. */
  below({ origin, pathname }: URL): string | undefined {
    const path = this.#known.get(origin);
    return path !== undefined && `${pathname}/`.startsWith(`${path}/`) ? pathname.slice(path.length + 1) : undefined;
  }
}

/** The path of a link below the name that the server gives itself:
 *  1. By a self link, which says how the server calls what was asked for. Pages of the base, such as HAPI's, may have a
 *     self link that says nothing, so what another page has told counts.
 *  2. By the type that was asked for, if the link's path has it.
 *  3. By the path of the base, if the link has the same.
 *  @returns undefined where nothing tells */
function belowOtherName(url: URL, base: URL, { asked, self }: LinkedPage, names: OwnNames): string | undefined {
  const below = asked.pathname.slice(base.pathname.length);
  const called = self === undefined ? undefined : URL.parse(self, base.href);
  const calledPath = called?.pathname.replace(/\/_search$/, "");
  if (called && below !== "" && calledPath?.endsWith(`/${below}`))
    names.learn(called, calledPath.slice(0, -below.length - 1));
  const known = names.below(url);
  if (known !== undefined) return known;
  const type = /^[A-Z][A-Za-z]+(?=\/|$)/.exec(below)?.[0];
  const at = type === undefined ? -1 : `${url.pathname}/`.lastIndexOf(`/${type}/`);
  if (at >= 0) return url.pathname.slice(at + 1);
  return `${url.pathname}/`.startsWith(base.pathname) ? url.pathname.slice(base.pathname.length) : undefined;
}

/** A request's URL as it may be shown. Of its path only those parts are shown that name no resource: ids of patients
 *  and Groups are as sensitive as data, and the next links of a server may hold anything. */
export function shownURL(base: URL, url: Address): string {
  const [type = "", next, last] = url.pathname.slice(base.pathname.length).split("/");
  const known = (part: string | undefined, otherwise: string) =>
    part === undefined ? [] : [/^_(history|search)$/.test(part) ? part : otherwise];
  const parts = /^([A-Z][A-Za-z]+|metadata|_history|\.well-known)$/.test(type)
    ? [type, ...known(next, "{id}"), ...known(last, "…")]
    : ["…"];
  return showURL(base) + (url.pathname === base.pathname ? "" : parts.join("/"));
}
