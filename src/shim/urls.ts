/** URLs of the service as its clients see them. Pure. */
import { withoutTrailingSlash } from "../url.ts";

/** The status URL of an export. Its files are below it.
 *  @param base the FHIR base as clients see it, without a slash at its end */
export const statusURL = (base: string, name: string): string => `${base}/_operations/export/${name}`;

/** The URL of a request as the client called it: with the host of the public URL, never that of a proxy, because the
 *  manifest repeats it to the client.
 *  @param path of the request, with its query. A proxy may have stripped the base's own path from it.
 *  @param base the FHIR base as clients see it, without a slash at its end */
export function calledURL(path: string, base: string): string {
  const { origin, pathname } = new URL(base);
  const prefix = withoutTrailingSlash(pathname);
  return prefix && (path === prefix || path.startsWith(`${prefix}/`)) ? origin + path : base + path;
}

/** The query of a URL as it was sent, without the question mark. */
export const queryOf = (url: string): string => (url.includes("?") ? url.slice(url.indexOf("?") + 1) : "");
