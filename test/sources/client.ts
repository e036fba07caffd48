/** A plain FHIR client for the tests of the sample source: parsed pages, no retry. */

export interface Page {
  resourceType: string;
  total?: number;
  link: { relation: string; url: string }[];
  entry?: {
    fullUrl?: string;
    resource?: { resourceType: string; id: string; meta: { lastUpdated: string; versionId: string } };
    search?: { mode: string };
  }[];
}

export interface Got {
  status: number;
  headers: Headers;
  text: string;
  /** The body as a Bundle. */
  page: Page;
}

/** GET (or what `init` says) of a path below the base, or of a link. */
export async function get(baseURL: string, path: string, init?: RequestInit): Promise<Got> {
  const answer = await fetch(new URL(path, `${baseURL}/`), init);
  const text = await answer.text();
  return {
    status: answer.status,
    headers: answer.headers,
    text,
    get page() {
      return JSON.parse(text) as Page;
    },
  };
}

/** The URL of the next page. */
export const nextOf = (page: Page): string | undefined => page.link.find(({ relation }) => relation === "next")?.url;
export const selfOf = (page: Page): string => page.link.find(({ relation }) => relation === "self")!.url;
export const idsOf = (page: Page): string[] => (page.entry ?? []).map(({ resource }) => resource!.id);

/** All pages of a search. */
export async function pagesOf(baseURL: string, path: string): Promise<Page[]> {
  const pages: Page[] = [];
  for (let next: string | undefined = path; next && pages.length < 1000; ) {
    const { page } = await get(baseURL, next);
    pages.push(page);
    next = nextOf(page);
  }
  return pages;
}

/** Ids of a search over all its pages, in the order in which they came. */
export async function allIds(baseURL: string, path: string): Promise<string[]> {
  return (await pagesOf(baseURL, path)).flatMap(idsOf);
}

/** `_summary=count` of a search. */
export async function count(baseURL: string, path: string): Promise<number | undefined> {
  return (await get(baseURL, `${path}${path.includes("?") ? "&" : "?"}_summary=count`)).page.total;
}
