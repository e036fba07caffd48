import assert from "node:assert/strict";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, suite, test } from "node:test";
import { deflateRawSync, gzipSync } from "node:zlib";
import type { Task } from "../../src/contracts.ts";
import { storage } from "../sink/stores.ts";
import { generate } from "../sources/generator.ts";
import { type Source, startSource } from "../sources/server.ts";
import { Export } from "./harness.ts";

// What a source may answer at the first contact. Each answer ends with a failure that names what to mend, or is waited
// for, which is said, too. None ends as Internal.

const { place } = storage();
const json = "application/fhir+json";

interface Answer {
  status?: number;
  headers?: Record<string, string>;
  body?: string | Buffer;
  /** the connection is cut in the midst of the body */
  isCut?: true;
}

let source: Source;
let server: ReturnType<typeof createServer>;
/** what `/metadata` answers; undefined: what the sample source answers */
let odd: (() => Answer | undefined) | undefined;
let statement: Record<string, unknown>;

before(async () => {
  let calls = 0;
  source = await startSource({
    resources: generate({ scale: 0.05 }).filter(({ type }) => ["Patient", "Encounter"].includes(type)),
    // The plan waits for the next second of the source's clock, so this one is a second later at each call.
    now: () => Date.now() + calls++ * 1000,
  });
  statement = (await (await fetch(`${source.baseURL}/metadata`)).json()) as Record<string, unknown>;
  server = createServer((request, response) => void answer(request, response)).listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
});
after(async () => {
  server.close();
  server.closeAllConnections();
  await source.close();
});

async function answer({ url = "", headers }: IncomingMessage, response: ServerResponse): Promise<void> {
  const given = url.startsWith("/fhir/metadata") ? odd?.() : undefined;
  if (given) {
    const { status = 200, headers: more = {}, body = "", isCut } = given;
    const length = Buffer.byteLength(body) + (isCut ? 10 : 0);
    response.writeHead(status, { "content-type": json, ...(status !== 204 && { "content-length": length }), ...more });
    response.write(body);
    return void (isCut ? setImmediate(() => response.destroy()) : response.end());
  }
  const asked = await fetch(new URL(url, source.baseURL), { headers: { prefer: String(headers.prefer ?? "") } });
  const date = asked.headers.get("date") ?? "";
  const text = (await asked.text()).replaceAll(source.baseURL, baseURL());
  response.writeHead(asked.status, { "content-type": json, date }).end(text);
}

const baseURL = () => `http://127.0.0.1:${(server.address() as AddressInfo).port}/fhir`;
const plan = async (more: Partial<Task["export"]>) =>
  new Export(await place("directory"), baseURL(), { export: more }).run("plan");
const bodyOf = (value: unknown): Answer => ({ body: JSON.stringify(value) });
const stated = (more: Record<string, unknown>) => bodyOf({ ...statement, ...more });

const page: Answer = { headers: { "content-type": "text/html" }, body: "<!DOCTYPE html><p>Sign in" };
const noStatement = ["terminal SourceNotFHIR", /\/metadata is no CapabilityStatement at spec\.baseURL/] as const;
const notJSON = ["terminal SourceNotFHIR", /\/metadata is not JSON at spec\.baseURL/] as const;
const noTypes = ["terminal UnknownType", /^spec\.types: .*name the types to export/] as const;
type End = readonly [end: string, message: RegExp];

const ends: Record<string, [Answer, End]> = {
  "a web page": [page, ["terminal SourceNotFHIR", /web page.*spec\.baseURL/]],
  "a web page as JSON": [{ ...page, headers: {} }, ["terminal SourceNotFHIR", /web page.*spec\.baseURL/]],
  XML: [
    { body: '<?xml version="1.0"?><CapabilityStatement xmlns="http://hl7.org/fhir"/>' },
    ["terminal SourceNotFHIR", /XML.*spec\.baseURL/],
  ],
  "UTF-16": [{ body: Buffer.from("\uFEFF{}", "utf16le") }, ["terminal SourceNotFHIR", /UTF-16.*spec\.baseURL/]],
  "JSON of something else": [bodyOf({ status: "UP" }), noStatement],
  "an OperationOutcome": [bodyOf({ resourceType: "OperationOutcome", issue: [] }), noStatement],
  "a list": [bodyOf([{ resourceType: "CapabilityStatement" }]), noStatement],
  null: [bodyOf(null), noStatement],
  "a number": [bodyOf(7), noStatement],
  "a string": [bodyOf("CapabilityStatement"), noStatement],
  "a resource whose type is no string": [bodyOf({ resourceType: ["CapabilityStatement"] }), noStatement],
  text: [{ body: "OK" }, notJSON],
  nothing: [{ body: "" }, notJSON],
  "204": [{ status: 204 }, notJSON],
  "half of it": [{ body: JSON.stringify({ resourceType: "CapabilityStatement" }).slice(0, 20) }, notJSON],
  "brackets without end": [{ body: "[".repeat(200_000) }, notJSON],
  "a redirect to a sign-in": [
    { status: 302, headers: { location: "https://login.example.org/?session=SECRET" } },
    ["terminal SourceNotFHIR", /redirects \(302.*spec\.baseURL/],
  ],
  "a redirect without a place": [{ status: 301 }, ["terminal SourceNotFHIR", /redirects \(301.*spec\.baseURL/]],
  "300": [{ status: 300, body: "[]" }, ["terminal SourceNotFHIR", /redirects \(300.*spec\.baseURL/]],
  "401": [{ status: 401 }, ["terminal SourceUnauthorized", /401.*spec\.auth/]],
  "401 with a web page": [{ ...page, status: 401 }, ["terminal SourceUnauthorized", /401.*spec\.auth/]],
  "403": [{ status: 403, body: "{}" }, ["terminal SourceUnauthorized", /403.*spec\.auth/]],
  "404": [{ status: 404, body: "{}" }, ["terminal SourceNotFHIR", /404.*spec\.baseURL/]],
  "404 with a web page": [{ ...page, status: 404 }, ["terminal SourceNotFHIR", /spec\.baseURL/]],
  "405": [{ status: 405 }, ["terminal SourceNotFHIR", /405.*spec\.baseURL/]],
  "410": [{ status: 410 }, ["terminal SourceNotFHIR", /410.*spec\.baseURL/]],
  "418": [{ status: 418 }, ["terminal SourceNotFHIR", /418.*spec\.baseURL/]],
  "501": [{ status: 501 }, ["terminal SourceNotFHIR", /501.*spec\.baseURL/]],
  "429": [{ status: 429 }, ["waiting SourceUnreachable", /429/]],
  "500": [{ status: 500 }, ["waiting SourceUnreachable", /500/]],
  "502 with a web page": [{ ...page, status: 502 }, ["waiting SourceUnreachable", /502/]],
  "503 for a year": [{ status: 503, headers: { "retry-after": "31536000" } }, ["waiting SourceUnreachable", /503/]],
  "a connection that is cut": [{ body: "{", isCut: true }, ["waiting SourceUnreachable", /does not answer/]],
  "gzip that is none": [
    { body: "{}", headers: { "content-encoding": "gzip" } },
    ["waiting SourceInconsistent", /Content-Encoding gzip/],
  ],
  "a coding that nobody knows": [
    { body: "{}", headers: { "content-encoding": "rot13" } },
    ["terminal SourceInconsistent", /Content-Encoding.*send gzip or none/],
  ],
  "no rest": [bodyOf({ resourceType: "CapabilityStatement", fhirVersion: "4.0.1" }), noTypes],
  "rest: null": [bodyOf({ resourceType: "CapabilityStatement", fhirVersion: "4.0.1", rest: null }), noTypes],
  "rest that is no list": [bodyOf({ resourceType: "CapabilityStatement", fhirVersion: "4.0.1", rest: {} }), noTypes],
  "rest with other things": [
    bodyOf({
      resourceType: "CapabilityStatement",
      fhirVersion: "4.0.1",
      rest: [null, 7, { resource: "Patient" }, { resource: [null, { type: 7, interaction: {} }, { type: "Patient" }] }],
    }),
    noTypes,
  ],
  "FHIR DSTU2": [bodyOf({ resourceType: "Conformance", fhirVersion: "1.0.2" }), noStatement],
  "an unknown fhirVersion": [
    bodyOf({ resourceType: "CapabilityStatement", fhirVersion: "\u0000<b>" }),
    ["terminal SourceNotFHIR", /fhirVersion something else.*spec\.baseURL/],
  ],
};
suite("what /metadata may answer for good", () => {
  for (const [name, [given, [want, message]]] of Object.entries(ends))
    test(`${name}: ${want}`, async () => {
      odd = () => given;
      const { report } = await plan({});
      assert.equal(`${report.error?.class} ${report.error?.reason}`, want, report.error?.message);
      assert.match(report.error?.message ?? "", message);
      assert.doesNotMatch(report.error?.message ?? "", /SECRET/);
    });
});

suite("what /metadata may answer for a while, or answers differently", () => {
  const passing: Record<string, Answer> = {
    "a web page": page,
    "JSON of something else": bodyOf({ status: "STARTING" }),
    nothing: { body: "" },
    "404": { status: 404, body: "{}" },
    "a redirect": { status: 302, headers: { location: "/starting" } },
  };
  for (const [name, given] of Object.entries(passing))
    test(`${name}, twice: it is asked for again`, async () => {
      let left = 2;
      odd = () => (left-- > 0 ? given : undefined);
      assert.equal((await plan({})).code, 0);
    });

  const taken: Record<string, () => Answer> = {
    "with a byte order mark": () => ({ body: `\uFEFF${JSON.stringify(statement)}` }),
    "as text/html": () => ({ ...bodyOf(statement), headers: { "content-type": "text/html" } }),
    "by gzip": () => ({ body: gzipSync(JSON.stringify(statement)), headers: { "content-encoding": "gzip" } }),
    "by deflate without its wrapper": () => ({
      body: deflateRawSync(JSON.stringify(statement)),
      headers: { "content-encoding": "deflate" },
    }),
    "with 203": () => ({ ...bodyOf(statement), status: 203 }),
    "with a Date that is none": () => ({ ...bodyOf(statement), headers: { date: "tomorrow" } }),
    "without fhirVersion": () => stated({ fhirVersion: null }),
    "with a fhirVersion that is a number": () => stated({ fhirVersion: 4 }),
    "with a URL that is none": () => stated({ implementation: { url: "not a URL" } }),
    "with a URL that is a number": () => stated({ implementation: { url: 7 } }),
    "with an implementation that is a string": () => stated({ implementation: "x" }),
    "with names that are no types": () => {
      const [rest] = statement.rest as { resource: object[] }[];
      const more = ["../Patient", "patient", "__proto__", "X".repeat(99), ""].map((type) => ({
        type,
        interaction: [{ code: "search-type" }],
      }));
      return stated({ rest: [{ ...rest, resource: [...rest!.resource, ...more, null] }] });
    },
  };
  for (const [name, given] of Object.entries(taken))
    test(`${name}: it is taken`, async () => {
      odd = given;
      for (const level of ["System", "Patient"] as const) {
        const { code, report } = await plan({ level });
        assert.equal(code, 0, report.error?.message);
      }
    });
});
