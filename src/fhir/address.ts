import { showURL, terminal } from "../failure.ts";

/** The parts of a URL that a request needs. */
export type Address = Readonly<Pick<URL, "href" | "origin" | "host" | "pathname" | "search">>;

/** What may follow the base URL in a link that needs no parsing: a path without dot segments, escapes and characters
 *  that a URL would escape, and a query without characters that it would escape (WHATWG URL, percent-encode sets). */
const plainLink =
  /^(?:[A-Za-z0-9_~:@!$&()*+,;=-][A-Za-z0-9_~:@!$&()*+,;=.-]*(?:\/|(?=\?)|$))*(?:\?[A-Za-z0-9_~:@!$&()*+,;=.%/?|-]+)?$/;

/** Resolves links of the source. A page may not send us, and our credentials, to another server.
 *  @param base the source's base URL, with a slash at its end
 *  @returns gives the address of a link; it throws terminal SourceInconsistent where the link leads away from `base` */
export function addresses(base: URL): (link: string) => Address {
  const { href, origin, host, pathname } = base;
  return (link) => {
    // Most links are spelt as a URL would spell them. They are not parsed, which would take 15 us.
    if (link.startsWith(href) && plainLink.test(link.slice(href.length))) {
      const query = link.indexOf("?");
      const end = query < 0 ? link.length : query;
      return { href: link, origin, host, pathname: pathname + link.slice(href.length, end), search: link.slice(end) };
    }
    const url = new URL(link, base);
    if (url.origin !== origin || !`${url.pathname}/`.startsWith(pathname))
      throw terminal(
        "SourceInconsistent",
        `the source's next link leads to ${showURL(url.origin)}, away from spec.baseURL of the FhirSource (${showURL(base)}); name there the address that the server uses in its links, or set that address up in the server`,
      );
    return url;
  };
}
