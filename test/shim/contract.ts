// What the HTTP service promises, wherever it runs: the same tests over a standalone and over Kubernetes.
import assert from "node:assert/strict";
import { after, before, suite, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { gunzipSync } from "node:zlib";
import { expected, type Wanted } from "../sources/expected.ts";
import type { Source } from "../sources/server.ts";
import { until } from "../tools/until.ts";
import { BulkClient, type KickOff, type Refused } from "./bulk-client.ts";
import { smart } from "./smart.ts";

export interface Backend {
  /** the FHIR base as clients see it */
  base: string;
  /** bases of other replicas, which give the same answers */
  others: string[];
  source: Source;
  /** where the service finds files that its configuration names */
  folder: string;
  /** replaces the service's configuration file */
  write(text: string): Promise<void>;
  /** and waits until every replica has read it */
  configure(text: string): Promise<void>;
  /** logs of all replicas */
  output(): string;
  close(): Promise<void>;
}

type Parameters = (readonly [string, string])[];
const isRefused = (answer: string | Refused): answer is Refused => typeof answer !== "string";

export function contract(
  name: string,
  options: { skip?: string | boolean; timeout?: number },
  start: () => Promise<Backend>,
): void {
  suite(`the $export of ${name}`, options, () => {
    let backend: Backend;
    let client: BulkClient;
    before(async () => {
      if (options.skip) return;
      backend = await start();
      client = new BulkClient(backend.base);
    });
    after(() => backend?.close());

    const refused = async (kickOff: KickOff): Promise<Refused> => {
      const answer = await client.kickOff(kickOff);
      assert(isRefused(answer), "it was accepted");
      return answer;
    };
    const accepted = async (kickOff: KickOff): Promise<string> => {
      const answer = await client.kickOff(kickOff);
      assert(!isRefused(answer), isRefused(answer) ? JSON.stringify(answer.issues) : "");
      return answer;
    };
    const text = ({ issues }: Refused) => issues.map(({ diagnostics }) => diagnostics).join("; ");

    async function same(kickOff: KickOff, wanted: Wanted) {
      const { lines, ...rest } = await client.export(kickOff);
      const all = expected(backend.source, wanted);
      assert(all.size > 0);
      assert.deepEqual([...lines.keys()].sort(), [...all.keys()].sort());
      for (const [key, line] of all) assert.equal(lines.get(key), line.toString());
      return rest;
    }

    const types: Parameters = [["_type", "Patient,Observation,Encounter"]];
    const wantedTypes = ["Patient", "Observation", "Encounter"];
    const levels = {
      System: { path: "/$export", wanted: {} },
      Patient: { path: "/Patient/$export", wanted: { level: "Patient" } },
      Group: { path: "/Group/ward/$export", wanted: { level: "Group", groupId: "ward" } },
    } as const;
    for (const [level, { path, wanted }] of Object.entries(levels))
      for (const method of ["GET", "POST"] as const)
        test(`R29, R30, R297-R299: level ${level} by ${method}, from kick-off to the last byte`, async () => {
          const { manifest, errors } = await same(
            { path, method, parameters: types },
            { ...wanted, types: wantedTypes },
          );
          assert.deepEqual([errors, manifest.deleted, manifest.requiresAccessToken], [[], [], false]);
          const query = method === "GET" ? "?_type=Patient%2CObservation%2CEncounter" : "";
          assert.equal(manifest.request, `${backend.base}${path}${query}`, "R155: the URL as it was called");
        });

    test("R32, R117: repeats of a parameter are a comma list; %24export is $export", async () => {
      await same(
        {
          path: "/%24export",
          parameters: [
            ["_type", "Patient"],
            ["_type", "Group"],
          ],
        },
        { types: ["Patient", "Group"] },
      );
    });

    test("R101: typeFilters of a type are OR, and commas in them are values", async () => {
      const filters = ["Observation?status=final,amended", "Observation?status=final"];
      const parameters: Parameters = [
        ["_type", "Observation"],
        ...filters.map((filter) => ["_typeFilter", filter] as const),
      ];
      const is = (it: { status: string }) => ["final", "amended"].includes(it.status);
      await same(
        { path: "/Patient/$export", parameters },
        { level: "Patient", types: ["Observation"], filters: { Observation: [is] } },
      );
    });

    test("R83: some patients, by POST", async () => {
      const ids = [...expected(backend.source, { level: "Group", groupId: "ward", types: ["Patient"] }).keys()].slice(
        0,
        3,
      );
      const patients = ids.map((key) => key.slice("Patient/".length));
      const parameters = ids.map((key) => ["patient", key] as const);
      await same({ path: "/Patient/$export", method: "POST", parameters }, { level: "Patient", patients });
    });

    test("R73: elements, with the SUBSETTED tag", async () => {
      const { lines } = await client.export({
        path: "/$export",
        parameters: [
          ["_type", "Patient"],
          ["_elements", "gender"],
        ],
      });
      for (const line of lines.values()) {
        const patient = JSON.parse(line);
        assert.equal(patient.name, undefined);
        assert(patient.meta.tag.some(({ code }: { code: string }) => code === "SUBSETTED"));
      }
    });

    test("R53, R179: since a moment, with what was deleted", async () => {
      const since = new Date().toISOString();
      await sleep(20);
      const [gone, changed] = [...backend.source.dump("Encounter").keys()].slice(0, 2) as [string, string];
      backend.source.delete("Encounter", gone.slice("Encounter/".length));
      backend.source.put(backend.source.dump("Encounter").get(changed)!.toString());
      // transactionTime is the end of a whole second
      await sleep(1100);
      const { lines, deleted } = await client.export({
        path: "/$export",
        parameters: [
          ["_type", "Encounter"],
          ["_since", since],
        ],
      });
      assert.deepEqual([...lines.keys()], [changed]);
      assert.deepEqual(deleted, [gone]);
    });

    test("R69, R197: what lenient dropped is told, once each", async () => {
      const { errors } = await client.export({
        path: "/$export",
        parameters: [
          ["_type", "Group"],
          ["_foo", "p-1"],
          ["includeAssociatedData", "LatestProvenanceResources"],
        ],
        headers: { prefer: "respond-async, handling=lenient" },
      });
      assert.equal(errors.length, 2);
      assert.match(errors.map(({ diagnostics }) => diagnostics).join(), /_foo.*includeAssociatedData/s);
      assert(errors.every(({ severity, diagnostics }) => severity === "warning" && !diagnostics!.includes("p-1")));
    });

    const refusals: Record<string, { kickOff: KickOff; status: number; says: RegExp }> = {
      "R44 no Accept": { kickOff: { path: "/$export", headers: { accept: "text/html" } }, status: 400, says: /Accept/ },
      "R46 no Prefer": {
        kickOff: { path: "/$export", headers: { prefer: "return=minimal" } },
        status: 400,
        says: /respond-async/,
      },
      "R69 an unknown parameter": {
        kickOff: { path: "/$export", parameters: [["_foo", "1"]] },
        status: 400,
        says: /_foo/,
      },
      "R49 another format": {
        kickOff: { path: "/$export", parameters: [["_outputFormat", "text/csv"]] },
        status: 400,
        says: /_outputFormat/,
      },
      "R63 a type that the source cannot search": {
        kickOff: { path: "/$export", parameters: [["_type", "Starship"]] },
        status: 400,
        says: /cannot search Starship/,
      },
      "R107 a type outside the compartment": {
        kickOff: { path: "/Patient/$export", parameters: [["_type", "Organization"]] },
        status: 400,
        says: /Organization.*compartment/,
      },
      "_since in the future": {
        kickOff: { path: "/$export", parameters: [["_since", new Date(Date.now() + 86_400_000).toISOString()]] },
        status: 400,
        says: /_since/,
      },
      "a container that the target does not allow": {
        kickOff: { path: "/$export", parameters: [["_container", "private"]] },
        status: 400,
        says: /_container/,
      },
      "R87 patient by GET": {
        kickOff: { path: "/Patient/$export", parameters: [["patient", "Patient/p-1"]] },
        status: 400,
        says: /POST/,
      },
      "organizeOutputBy is not there": {
        kickOff: { path: "/$export", parameters: [["organizeOutputBy", "Patient"]] },
        status: 400,
        says: /organizeOutputBy/,
      },
    };
    for (const [title, { kickOff, status, says }] of Object.entries(refusals))
      test(`${title}: ${status}`, async () => {
        const answer = await refused(kickOff);
        assert.equal(answer.status, status);
        assert.match(text(answer), says);
      });

    test("a Group that is not there is found by the job: 422 at the status URL", async () => {
      const answer = await client.wait(await accepted({ path: "/Group/nobody/$export" }));
      assert("status" in answer);
      assert.equal(answer.status, 422);
      assert.match(text(answer), /UnknownGroup/);
    });

    test("HEAD starts nothing and other methods are refused", async () => {
      for (const path of ["/$export", "/Patient/$export", "/Group/ward/$export"]) {
        const answer = await fetch(`${backend.base}${path}`, {
          method: "HEAD",
          headers: { accept: "*/*", prefer: "respond-async" },
        });
        assert.equal(answer.status, 405);
      }
      assert.equal((await fetch(`${backend.base}/$export`, { method: "PUT" })).status, 405);
    });

    test("R119-R122: after DELETE every request is 404, at once here and within a second elsewhere", async () => {
      const running = await accepted({ path: "/$export" });
      const { statusURL: whole, manifest } = await client.export({
        path: "/$export",
        parameters: [["_type", "Group"]],
      });
      for (const url of [running, whole]) {
        assert.equal((await fetch(url, { method: "DELETE" })).status, 202);
        assert.equal((await fetch(url)).status, 404);
        assert.equal((await fetch(url, { method: "DELETE" })).status, 404);
        for (const other of backend.others) {
          const elsewhere = url.replace(backend.base, other);
          await until("404 elsewhere", async () => (await fetch(elsewhere)).status === 404, 1000);
        }
      }
      assert.equal((await fetch(manifest.output[0]!.url)).status, 404);
    });

    test("a repeated kick-off with the same Idempotency-Key makes one export", async () => {
      const headers = { "idempotency-key": crypto.randomUUID() };
      const once = { path: "/$export", parameters: [["_type", "Group"]] as Parameters, headers };
      const urls = await Promise.all([accepted(once), accepted(once), accepted(once)]);
      assert.equal(new Set(urls).size, 1);
      const another = await refused({ ...once, path: "/Patient/$export" });
      assert.equal(another.status, 422);
      await client.wait(urls[0]!);
      assert.equal(await accepted(once), urls[0]);
      await fetch(urls[0]!, { method: "DELETE" });
      assert.equal((await refused(once)).status, 409);
      const others = await Promise.all([accepted({ path: "/$export" }), accepted({ path: "/$export" })]);
      assert.notEqual(others[0], others[1]);
      for (const url of others) await fetch(url, { method: "DELETE" });
    });

    test("Prefer: separate-export-status: 200 tells of the poll, X-Export-Status of the export", async () => {
      const headers = { accept: "*/*", prefer: "respond-async, separate-export-status" };
      const answer = await fetch(`${backend.base}/Group/nobody/$export`, { headers });
      assert.equal(answer.status, 202);
      assert.deepEqual(answer.headers.get("preference-applied")?.split(/,\s*/), [
        "respond-async",
        "separate-export-status",
      ]);
      const states: string[] = [];
      await until(
        "an end",
        async () => {
          const poll = await fetch(answer.headers.get("content-location")!);
          assert.equal(poll.status, 200);
          states.push(poll.headers.get("x-export-status")!);
          await poll.body?.cancel();
          await sleep(300);
          return !states.at(-1)!.startsWith("202");
        },
        60_000,
      );
      assert.equal(states[0], "202 Accepted");
      assert.equal(states.at(-1), "422 Unprocessable Entity");
    });

    test("files: Range, ETag, and the same bytes from every replica", async () => {
      const { manifest } = await client.export({ path: "/$export", parameters: [["_type", "Patient"]] });
      const { url } = manifest.output[0]!;
      const whole = await fetch(url);
      const bytes = Buffer.from(await whole.arrayBuffer());
      const etag = whole.headers.get("etag")!;
      assert.match(etag, /^"/);
      const part = await fetch(url, { headers: { range: "bytes=10-19", "if-range": etag } });
      assert.deepEqual([part.status, part.headers.get("content-range")], [206, `bytes 10-19/${bytes.length}`]);
      assert.deepEqual(Buffer.from(await part.arrayBuffer()), bytes.subarray(10, 20));
      assert.equal((await fetch(url, { headers: { range: `bytes=${bytes.length}-` } })).status, 416);
      assert.equal((await fetch(url, { headers: { "if-none-match": etag } })).status, 304);
      for (const other of backend.others) {
        const elsewhere = await fetch(url.replace(backend.base, other));
        assert.equal(elsewhere.headers.get("etag"), etag);
        assert.deepEqual(Buffer.from(await elsewhere.arrayBuffer()), bytes);
      }
    });

    test("configuration: gzip files go as they are to whom takes gzip, as lines to others; Expires is told", async () => {
      await backend.configure("exports: { ttlSecondsAfterFinished: 86400, output: { compression: Gzip } }");
      try {
        const { manifest, statusURL, lines } = await client.export({
          path: "/$export",
          parameters: [["_type", "Patient"]],
        });
        assert.deepEqual([...lines.keys()].sort(), [...backend.source.dump("Patient").keys()].sort());
        const expires = Date.parse((await fetch(statusURL)).headers.get("expires")!);
        assert(expires > Date.now() + 80_000_000 && expires < Date.now() + 90_000_000);
        const { request } = await import("node:http");
        const raw = (encoding: string) =>
          new Promise<{ encoding: string | undefined; bytes: Buffer }>((resolve, reject) => {
            const asked = request(
              manifest.output[0]!.url,
              { headers: { "accept-encoding": encoding } },
              async (answer) => {
                const parts: Buffer[] = [];
                for await (const part of answer) parts.push(part as Buffer);
                resolve({ encoding: answer.headers["content-encoding"], bytes: Buffer.concat(parts) });
              },
            );
            asked.on("error", reject).end();
          });
        const [packed, plain] = [await raw("gzip"), await raw("identity")];
        assert.deepEqual([packed.encoding, plain.encoding], ["gzip", undefined]);
        assert.deepEqual(gunzipSync(packed.bytes), plain.bytes);
        assert(packed.bytes.length < plain.bytes.length / 2);
      } finally {
        await backend.configure("");
      }
    });

    test("configuration: limits of exports and of polls are 429 with Retry-After; a bad file changes nothing", async () => {
      await backend.configure("limits: { exportsPerClient: 1, pollsPerMinute: 6 }");
      try {
        backend.source.set({ pageDelay: 1000 });
        const first = await accepted({ path: "/$export" });
        const second = await refused({ path: "/$export" });
        assert.deepEqual([second.status, Number(second.headers.get("retry-after")) > 0], [429, true]);
        const polls = [];
        for (let n = 0; n < 15; n++) polls.push(await fetch(first));
        const tooFast = polls.find(({ status }) => status === 429);
        assert(tooFast, "asked for too often");
        assert(Number(tooFast.headers.get("retry-after")) >= 1);
        assert.equal(((await tooFast.json()) as { resourceType: string }).resourceType, "OperationOutcome");
        await fetch(first, { method: "DELETE" });
        const third = await accepted({ path: "/$export" });
        await fetch(third, { method: "DELETE" });
      } finally {
        backend.source.set({ pageDelay: 0 });
        await backend.configure("");
      }
    });

    test("R1: /metadata tells of the three operations, and their definitions are there", async () => {
      for (const base of new Set([backend.base, new URL(backend.base).origin])) {
        const answer = await fetch(`${base}/metadata`);
        assert.match(answer.headers.get("content-type")!, /^application\/fhir\+json/);
        const { rest, instantiates } = (await answer.json()) as {
          instantiates: string[];
          rest: {
            operation: { name: string; definition: string }[];
            resource: { type: string; operation: { definition: string }[] }[];
          }[];
        };
        assert(instantiates.includes("http://hl7.org/fhir/uv/bulkdata/CapabilityStatement/bulk-data"));
        assert.equal(rest[0]!.operation[0]!.name, "export");
        for (const id of ["export", "patient-export", "group-export"]) {
          const definition = (await (await fetch(`${base}/OperationDefinition/${id}`)).json()) as {
            resourceType: string;
            code: string;
          };
          assert.deepEqual([definition.resourceType, definition.code], ["OperationDefinition", "export"]);
        }
      }
    });

    smart(() => backend, options.skip);
  });
}
