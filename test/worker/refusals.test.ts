import assert from "node:assert/strict";
import { mkdir, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import type { Task } from "../../src/contracts.ts";
import { paths, readAll, storage } from "../sink/stores.ts";
import type { Behaviour, Fault } from "../sources/faults.ts";
import { type Source, startSource } from "../sources/server.ts";
import { freePort } from "../tools/azurite.ts";
import { Export, linesOf } from "./harness.ts";

const { place } = storage();
let source: Source;
let closed: Source;
before(async () => {
  source = await startSource();
  closed = await startSource({ auth: { kind: "bearer", token: "right" } });
});
after(() => Promise.all([source.close(), closed.close()]));

interface Case {
  name: string;
  export?: Partial<Task["export"]>;
  source?: Partial<Task["source"]>;
  behaviour?: Behaviour;
  faults?: Fault[];
  code: 64 | 75;
  reason: string;
  /** what the message must say */
  message: RegExp;
}

const always = { times: "always" } as const;

/** Faults that a person must mend (exit code 64), or that must pass by themselves (75). The message names the thing to
 *  mend. */
const cases: Case[] = [
  {
    name: "a type that the source does not know",
    export: { types: ["Patient", "Patiemt"] },
    code: 64,
    reason: "UnknownType",
    message: /spec\.types.*Patiemt/,
  },
  {
    name: "a type outside the Patient compartment",
    export: { level: "Patient", types: ["Organization"] },
    code: 64,
    reason: "UnsupportedParameter",
    message: /spec\.types.*Organization/,
  },
  {
    name: "a Group that does not exist",
    export: { level: "Group", groupId: "no-such-group" },
    code: 64,
    reason: "UnknownGroup",
    message: /spec\.groupId/,
  },
  {
    name: "a filter that the source refuses",
    export: { typeFilters: ["Patient?nonsense=1"] },
    code: 64,
    reason: "InvalidFilter",
    message: /spec\.typeFilters\[0\] \(Patient\)/,
  },
  {
    name: "a source that silently ignores a parameter of a filter",
    export: { typeFilters: ["Patient?gender=female"] },
    behaviour: { ignore: ["gender"] },
    code: 64,
    reason: "InvalidFilter",
    message: /typeFilters\[0\] \(Patient\).*ignores gender/,
  },
  {
    name: "a source that redirects",
    faults: [{ kind: "status", status: 302, ...always }],
    code: 64,
    reason: "SourceNotFHIR",
    message: /redirects.*baseURL/,
  },
  {
    name: "a web page instead of FHIR",
    faults: [{ kind: "html", ...always }],
    code: 64,
    reason: "SourceNotFHIR",
    message: /web page.*spec\.baseURL/,
  },
  {
    name: "JSON that is no FHIR",
    faults: [{ kind: "notBundle", ...always }],
    code: 64,
    reason: "SourceNotFHIR",
    message: /no CapabilityStatement at spec\.baseURL/,
  },
  {
    name: "a base URL without FHIR behind it",
    source: { baseURL: "/nothing" },
    code: 64,
    reason: "SourceNotFHIR",
    message: /spec\.baseURL/,
  },
  {
    name: "a source that refuses our credentials (403)",
    faults: [{ kind: "status", status: 403, ...always }],
    code: 64,
    reason: "SourceUnauthorized",
    message: /spec\.auth/,
  },
  {
    name: "a resource of another type, onResourceError: Fail",
    export: { onResourceError: "Fail" },
    faults: [{ kind: "wrongType", ...always }],
    code: 64,
    reason: "WrongResource",
    message: /a search of \w+ with a resource of type/,
  },
  {
    name: "a next link that leads elsewhere, links: Strict",
    source: { links: "Strict" },
    faults: [{ kind: "foreignNext", origin: "http://127.0.0.2:9", ...always }],
    code: 64,
    reason: "SourceInconsistent",
    message: /next link leads to http:\/\/127\.0\.0\.2:9\/[^?]*, away/,
  },
  {
    name: "an unreachable source",
    source: { baseURL: "http://127.0.0.1:1/fhir" },
    code: 75,
    reason: "SourceUnreachable",
    message: /ECONNREFUSED.*spec\.baseURL/,
  },
  {
    name: "a host name that does not exist",
    source: { baseURL: "http://no-such-host.invalid/fhir" },
    code: 75,
    reason: "SourceUnreachable",
    message: /no-such-host\.invalid/,
  },
  {
    name: "a source that is overloaded (503)",
    faults: [{ kind: "status", status: 503, ...always }],
    code: 75,
    reason: "SourceUnreachable",
    message: /503/,
  },
];

describe("an export that cannot be done says what to mend, and leaves no output", () => {
  for (const { name, export: parameters, source: change, behaviour, faults, code, reason, message } of cases)
    test(name, async () => {
      const where = await place("directory");
      const baseURL = change?.baseURL?.startsWith("/")
        ? new URL(change.baseURL, source.baseURL).href
        : (change?.baseURL ?? source.baseURL);
      const run = new Export(where, baseURL, {
        export: { types: ["Patient", "Observation"], ...parameters },
        source: { ...change, baseURL },
      });
      if (behaviour) source.set(behaviour);
      if (faults) source.inject(...faults);
      try {
        const done = await run.all();
        assert.deepEqual([done.code, done.report.error?.reason], [code, reason], done.report.error?.message);
        assert.match(done.report.error!.message, message);
        assert.doesNotMatch(done.report.error!.message, /[?&][\w]+=|female|no-such-group/, "no query, filter or id");
        assert.equal((await paths(await where.open())).includes("manifest.json"), false);
      } finally {
        source.clearFaults();
        source.set({ ignore: [] });
      }
    });

  test("no credentials in the Secret, wrong ones, and then the right ones", async () => {
    const where = await place("directory");
    const run = new Export(where, closed.baseURL, { source: { auth: { kind: "bearer" } } });
    const none = await run.run("plan");
    assert.deepEqual([none.code, none.report.error?.reason], [64, "SourceUnauthorized"]);
    assert.match(none.report.error!.message, /key "token"/);
    await mkdir(join(where.secrets, "source"), { recursive: true });
    await writeFile(join(where.secrets, "source", "token"), "wrong\n");
    const wrong = await run.run("plan");
    assert.deepEqual([wrong.code, wrong.report.error?.reason], [64, "SourceUnauthorized"]);
    assert.match(wrong.report.error!.message, /401.*spec\.auth/);
    await writeFile(join(where.secrets, "source", "token"), "right\n");
    assert.equal((await run.run("plan")).code, 0);
  });

  test("a folder that holds another export is refused by every command", async () => {
    const where = await place("directory");
    assert.equal((await new Export(where, source.baseURL, { export: { types: ["Patient"] } }).run("plan")).code, 0);
    const other = new Export(where, source.baseURL, { export: { types: ["Patient"] } });
    for (const command of ["plan", "export", "seal", "purge"] as const) {
      const { code, report } = await other.run(command);
      assert.deepEqual([command, code, report.error?.reason], [command, 64, "ForeignOutput"]);
    }
  });

  test("a task of an unknown version", async () => {
    const where = await place("directory");
    const run = new Export(where, source.baseURL);
    Object.assign(run.task, { v: 2 });
    const { code, report } = await run.run("plan");
    assert.deepEqual([code, report.error?.reason], [64, "TaskVersion"]);
  });
});

describe("storage that refuses", () => {
  const failing = async (change: (task: Task) => void) => {
    const where = await place("azure");
    const run = new Export(where, source.baseURL, { export: { types: ["Patient"] } });
    change(run.task);
    const { code, report } = await run.run("plan");
    return { code, error: report.error!, where, run };
  };
  const azure = (task: Task) =>
    (task.target as { azureBlob: { container: string; auth: string; createContainer: boolean; accountURL: string } })
      .azureBlob;

  test("an illegal container name", async () => {
    const { code, error } = await failing((task) => (azure(task).container = "No_Good"));
    assert.deepEqual([code, error.reason], [64, "InvalidContainer"]);
    assert.match(error.message, /No_Good/);
  });

  test("a wrong account key", async () => {
    const where = await place("azure");
    await writeFile(
      join(where.secrets, "target", "connection-string"),
      `DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey=${Buffer.from("wrong").toString("base64")};BlobEndpoint=${azure({ target: where.target } as Task).accountURL};`,
    );
    const { code, report } = await new Export(where, source.baseURL).run("plan");
    assert.deepEqual([code, report.error?.reason], [64, "TargetUnauthorized"]);
    assert.match(report.error!.message, /credentials/);
  });

  test("an account that does not answer", async () => {
    const where = await place("azure");
    const port = await freePort();
    await writeFile(
      join(where.secrets, "target", "connection-string"),
      `DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey=${Buffer.from("x").toString("base64")};BlobEndpoint=http://127.0.0.1:${port}/devstoreaccount1;`,
    );
    const { code, report } = await new Export(where, source.baseURL).run("plan");
    assert.deepEqual([code, report.error?.reason], [75, "TargetUnreachable"]);
  });

  test("an account that fails in the middle: nothing unfinished is listed, and the next run completes the export", async () => {
    const where = await place("azure");
    let [broken, refused] = [false, 0];
    const real = new URL(azure({ target: where.target } as Task).accountURL);
    // a proxy before the emulator, which answers 503 from the third block on
    const proxy = createServer(async (request, response) => {
      if (request.url?.includes("comp=block&") && ++refused > 2) broken = true;
      if (broken) return void response.writeHead(503).end();
      const body = Buffer.concat(await request.toArray());
      const answer = await fetch(new URL(request.url!, real), {
        method: request.method!,
        headers: request.headers as Record<string, string>,
        ...(body.length > 0 && { body }),
      });
      response
        .writeHead(
          answer.status,
          Object.fromEntries([...answer.headers].filter(([name]) => name !== "content-encoding")),
        )
        .end(Buffer.from(await answer.arrayBuffer()));
    });
    await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));
    const direct = await import("node:fs/promises").then(({ readFile }) =>
      readFile(join(where.secrets, "target", "connection-string"), "utf8"),
    );
    await writeFile(
      join(where.secrets, "target", "connection-string"),
      direct.replace(real.host, `127.0.0.1:${(proxy.address() as { port: number }).port}`),
    );
    const run = new Export(where, source.baseURL, { export: { types: ["Observation"], maxFileBytes: 20_000 } });
    Object.assign(azure(run.task), { blockBytes: 8000 });
    const done = await run.all();
    assert.deepEqual([done.code, done.report.error?.reason], [75, "TargetUnreachable"]);
    proxy.closeAllConnections();
    await new Promise((resolve) => proxy.close(resolve));
    await writeFile(join(where.secrets, "target", "connection-string"), direct);
    const store = await where.open();
    assert.equal((await paths(store)).includes("manifest.json"), false);
    // storage works again: the export continues from its checkpoints
    const again = await run.all();
    assert.equal(again.code, 0, again.report.error?.message);
    const { lines, doubled } = await linesOf(store);
    assert.deepEqual([doubled.length, lines.size], [0, source.dump("Observation").size]);
  });
});

describe("onResourceError: Record", () => {
  test("a page that is wrong once is read again, and leaves no error", async () => {
    const where = await place("directory");
    source.inject({ kind: "wrongType", match: "&_sort=", skip: 2 });
    const done = await new Export(where, source.baseURL, { export: { types: ["Observation"] } }).all();
    assert.deepEqual([done.code, done.report.totals?.errors, done.report.exact], [0, 0, true]);
    const { lines } = await linesOf(await where.open());
    assert.deepEqual([...lines.keys()].sort(), [...source.dump("Observation").keys()].sort());
  });

  test("a resource of another type becomes an OperationOutcome line, and is not exported", async () => {
    const where = await place("directory");
    source.inject({ kind: "wrongType", match: "&_sort=", skip: 2, times: "always" });
    const done = await new Export(where, source.baseURL, { export: { types: ["Observation"] } }).all();
    source.clearFaults();
    assert.equal(done.code, 0);
    const store = await where.open();
    const { manifest, lines } = await linesOf(store);
    // a page that is wrong on the second reading as well is reported: errors are counted, and the export is not exact
    assert(done.report.totals!.errors > 0);
    assert.equal(done.report.exact, false);
    const outcomes = (
      await Promise.all(manifest.error.map(async ({ path }) => (await readAll(store, path))!.toString()))
    )
      .join("")
      .split("\n")
      .slice(0, -1);
    assert(outcomes.length >= done.report.totals!.errors);
    assert(
      outcomes.every((line) => (JSON.parse(line) as { resourceType: string }).resourceType === "OperationOutcome"),
    );
    assert(outcomes.some((line) => /A search of Observation from .* was answered with a resource of type/.test(line)));
    assert([...lines.keys()].every((name) => name.startsWith("Observation/")));
  });
});
