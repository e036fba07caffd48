// A Bulk Data client as the IG describes one, from kick-off to the last byte. It knows nothing of this product, takes
// nothing for granted and says which rule an answer breaks.
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";

export interface Item {
  type: string;
  url: string;
  count?: number;
}
export interface BulkManifest {
  transactionTime: string;
  request: string;
  requiresAccessToken: boolean;
  output: Item[];
  deleted?: Item[];
  error: Item[];
}
export interface Issue {
  severity: string;
  code: string;
  diagnostics?: string;
  details?: { text: string };
}

export interface KickOff {
  /** Path below the base, for example `/Patient/$export`. */
  path: string;
  method?: "GET" | "POST";
  /** Repeated names are sent repeatedly. */
  parameters?: readonly (readonly [name: string, value: string])[];
  headers?: Record<string, string>;
}

export interface Refused {
  status: number;
  issues: Issue[];
  headers: Headers;
}

/** POST types of the parameters (Bulk Data IG 3, OperationDefinition export); all others are strings. */
const posted: Record<string, (value: string) => object> = {
  _since: (value) => ({ valueInstant: value }),
  _until: (value) => ({ valueInstant: value }),
  patient: (value) => ({ valueReference: { reference: value } }),
};

export class BulkClient {
  readonly base: string;
  readonly #token: (() => Promise<string>) | undefined;

  /** @param token a new or a still valid access token, asked for before each request */
  constructor(base: string, token?: () => Promise<string>) {
    this.base = base;
    this.#token = token;
  }

  async request(
    url: string,
    init: RequestInit & { headers?: Record<string, string> } = {},
    withToken = true,
  ): Promise<Response> {
    const headers = {
      ...init.headers,
      ...(this.#token && withToken && { authorization: `Bearer ${await this.#token()}` }),
    };
    return fetch(url, { redirect: "manual", ...init, headers });
  }

  /** @returns the status URL, or why not */
  async kickOff({ path, method = "GET", parameters = [], headers = {} }: KickOff): Promise<string | Refused> {
    const all = { accept: "application/fhir+json", prefer: "respond-async", ...headers };
    const query = new URLSearchParams(parameters.map(([name, value]): [string, string] => [name, value])).toString();
    const answer =
      method === "GET"
        ? await this.request(`${this.base}${path}${query && `?${query}`}`, { headers: all })
        : await this.request(`${this.base}${path}`, {
            method,
            headers: { "content-type": "application/fhir+json", ...all },
            body: JSON.stringify({
              resourceType: "Parameters",
              parameter: parameters.map(([name, value]) => ({
                name,
                ...(posted[name]?.(value) ?? { valueString: value }),
              })),
            }),
          });
    if (answer.status !== 202) return refusal(answer);
    const location = answer.headers.get("content-location");
    assert(location && /^https?:\/\//.test(location), "R301: Content-Location is absolute");
    const body = await answer.text();
    if (body) assert.equal(JSON.parse(body).resourceType, "OperationOutcome", "R302");
    return location;
  }

  /** Polls as often as the server says, but at least twice a second, because tests are in a hurry. */
  async wait(statusURL: string, timeoutMs = 90_000): Promise<BulkManifest | Refused> {
    const end = Date.now() + timeoutMs;
    for (;;) {
      const answer = await this.request(statusURL);
      if (answer.status === 200) return checkManifest(answer);
      if (answer.status !== 202 && answer.status !== 429 && answer.status !== 503) return refusal(answer);
      await answer.body?.cancel();
      const progress = answer.headers.get("x-progress");
      if (progress !== null) assert(progress.length < 100, "R134: X-Progress is below 100 characters");
      const after = Number(answer.headers.get("retry-after"));
      assert(Number.isInteger(after) && after >= 1 && after <= 60, `Retry-After is whole seconds, soon: ${after}`);
      if (Date.now() > end) throw new Error(`not done in time: ${progress}`);
      await sleep(Math.min(after * 1000, 500));
    }
  }

  /** Fetches all files: lines of output files by `Type/id`, issues of error files, and references that were deleted. */
  async download(manifest: BulkManifest): Promise<{ lines: Map<string, string>; errors: Issue[]; deleted: string[] }> {
    const lines = new Map<string, string>();
    for (const item of manifest.output)
      for (const line of await this.file(item, manifest.requiresAccessToken)) {
        const { resourceType, id } = JSON.parse(line) as { resourceType: string; id: string };
        assert.equal(resourceType, item.type, "R173: one type in a file, the one that is said");
        assert(!lines.has(`${resourceType}/${id}`), `R202: ${resourceType}/${id} comes once`);
        lines.set(`${resourceType}/${id}`, line);
      }
    const errors: Issue[] = [];
    for (const item of manifest.error)
      for (const line of await this.file(item, manifest.requiresAccessToken)) {
        const outcome = JSON.parse(line) as { resourceType: string; issue: Issue[] };
        assert.equal(outcome.resourceType, "OperationOutcome", "R192");
        errors.push(...outcome.issue);
      }
    const deleted: string[] = [];
    for (const item of manifest.deleted ?? [])
      for (const line of await this.file(item, manifest.requiresAccessToken)) {
        const bundle = JSON.parse(line) as {
          resourceType: string;
          type: string;
          entry: { request: { method: string; url: string } }[];
        };
        assert.deepEqual([bundle.resourceType, bundle.type], ["Bundle", "transaction"], "R183");
        for (const { request } of bundle.entry) {
          assert.equal(request.method, "DELETE", "R184");
          deleted.push(request.url);
        }
      }
    return { lines, errors, deleted };
  }

  async file({ url, count }: Item, withToken: boolean): Promise<string[]> {
    const answer = await this.request(url, { headers: { accept: "application/fhir+ndjson" } }, withToken);
    if (answer.status === 307) {
      assert.equal(await answer.text(), "", "a redirect has no body");
      // the redirect leads to another host, which must not see the token
      return this.file(
        { url: answer.headers.get("location")!, type: "", ...(count !== undefined && { count }) },
        false,
      );
    }
    assert.equal(answer.status, 200, `R206: ${answer.status}`);
    assert.equal(answer.headers.get("content-type")?.split(";")[0], "application/fhir+ndjson", "R207");
    const text = await answer.text();
    assert(
      text.endsWith("\n") && !text.includes("\n\n") && !text.startsWith("\ufeff"),
      "NDJSON: each line ends, none is empty, no BOM",
    );
    const lines = text.slice(0, -1).split("\n");
    if (count !== undefined) assert.equal(lines.length, count, "R171: count is the number of lines");
    return lines;
  }

  /** Kick-off, waiting and download in one; throws on any refusal. */
  async export(kickOff: KickOff) {
    const statusURL = await this.kickOff(kickOff);
    if (typeof statusURL !== "string")
      throw new Error(`kick-off: ${statusURL.status} ${JSON.stringify(statusURL.issues)}`);
    const manifest = await this.wait(statusURL);
    if ("status" in manifest) throw new Error(`status: ${manifest.status} ${JSON.stringify(manifest.issues)}`);
    return { statusURL, manifest, ...(await this.download(manifest)) };
  }
}

async function checkManifest(answer: Response): Promise<BulkManifest> {
  assert.equal(answer.headers.get("content-type")?.split(";")[0], "application/json", "R145");
  const manifest = (await answer.json()) as BulkManifest;
  assert(!Number.isNaN(Date.parse(manifest.transactionTime)), "R150");
  assert.match(manifest.request, /^https?:\/\//, "R155");
  assert.equal(typeof manifest.requiresAccessToken, "boolean", "R159");
  assert(Array.isArray(manifest.output) && Array.isArray(manifest.error), "R164, R191: arrays, also when empty");
  for (const item of [...manifest.output, ...manifest.error, ...(manifest.deleted ?? [])]) {
    assert.match(item.url, /^https?:\/\//, "R168: absolute");
    assert.equal(typeof item.type, "string");
    assert(item.count === undefined || (Number.isInteger(item.count) && item.count > 0), "R171");
  }
  const expires = answer.headers.get("expires");
  if (expires !== null) assert.equal(new Date(expires).toUTCString(), expires, "R146: Expires is an HTTP date");
  return manifest;
}

async function refusal(answer: Response): Promise<Refused> {
  assert.match(
    answer.headers.get("content-type") ?? "",
    /^application\/fhir\+json/,
    `R304: ${answer.status} has an OperationOutcome`,
  );
  const outcome = (await answer.json()) as { resourceType: string; issue: Issue[] };
  assert.equal(outcome.resourceType, "OperationOutcome", "R304");
  assert(
    outcome.issue.length > 0 &&
      outcome.issue.every(({ diagnostics, details }) => diagnostics && details?.text === diagnostics),
  );
  return { status: answer.status, issues: outcome.issue, headers: answer.headers };
}
