import { showURL, terminal } from "../failure.ts";

/** What is needed of a URL to ask for it. */
export type Address = Readonly<Pick<URL, "href" | "origin" | "host" | "pathname" | "search">>;

/** Behind the base URL: a path without dot segments, escapes or what a URL would escape, and a query likewise (WHATWG
 *  URL, percent-encode sets). */
const plain =
  /^(?:[A-Za-z0-9_~:@!$&()*+,;=-][A-Za-z0-9_~:@!$&()*+,;=.-]*(?:\/|(?=\?)|$))*(?:\?[A-Za-z0-9_~:@!$&()*+,;=.%/?|-]+)?$/;

/** @param base ends with a slash
 *  @returns what a link of the source leads to. A page may not send us (and our credentials) elsewhere: it throws
 *    terminal SourceInconsistent */
export function addresses(base: URL): (link: string) => Address {
  const { href, origin, host, pathname } = base;
  return (link) => {
    // most links are as a URL would spell them and need not be parsed, which takes 15 us
    if (link.startsWith(href) && plain.test(link.slice(href.length))) {
      const query = link.indexOf("?");
      const end = query < 0 ? link.length : query;
      return { href: link, origin, host, pathname: pathname + link.slice(href.length, end), search: link.slice(end) };
    }
    const url = new URL(link, base);
    if (url.origin !== origin || !`${url.pathname}/`.startsWith(pathname))
      throw terminal(
        "SourceInconsistent",
        `the source's next link leads to ${showURL(url.origin)}, away from spec.baseURL of the FhirSource (${showURL(base)})`,
      );
    return url;
  };
}
