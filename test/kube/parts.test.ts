import assert from "node:assert/strict";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { serveHealth } from "../../src/kube/health.ts";
import { makeMetrics, startAtZero } from "../../src/kube/metrics.ts";
import { parseOperatorOptions } from "../../src/kube/options.ts";
import { Overlay } from "../../src/kube/overlay.ts";
import { Owned } from "../../src/kube/owned.ts";
import { parseProgress } from "../../src/kube/progress.ts";

const totals = { files: 1, resources: 2, bytes: 3, errors: 0 };
const progress = { v: 1, uid: "e", podUID: "p", index: 0, totals, types: [], throttledSeconds: 0 };
const answers: [string, object | string, boolean][] = [
  ["as it should be", progress, true],
  ["without podUID", { ...progress, podUID: undefined }, true],
  ["no JSON", "<html>", false],
  ["another export's", { ...progress, uid: "x" }, false],
  ["another pod's", { ...progress, podUID: "x" }, false],
  ["another version", { ...progress, v: 2 }, false],
  ["a negative count", { ...progress, totals: { ...totals, bytes: -1 } }, false],
  ["a fraction", { ...progress, totals: { ...totals, bytes: 0.5 } }, false],
  ["without totals", { ...progress, totals: undefined }, false],
  ["a negative index", { ...progress, index: -1 }, false],
  ["null", "null", false],
];
test("progress of a pod says that the source asks to wait, and nothing else that it is not asked for", () => {
  const parse = (paused: unknown) => parseProgress(JSON.stringify({ ...progress, paused, more: "x" }), "e", "p");
  assert.deepEqual(parse(true), { ...progress, paused: true });
  assert.deepEqual([parse(undefined), parse("yes")], [progress, progress]);
});

test("progress of a pod says what its requests meet, by a reason that is known", () => {
  const parse = (trouble: unknown) => parseProgress(JSON.stringify({ ...progress, trouble }), "e", "p")?.trouble;
  const trouble = { reason: "SourceUnreachable", message: "m" };
  assert.deepEqual(parse({ ...trouble, more: 1 }), trouble);
  assert.equal(parse({ ...trouble, message: "m".repeat(2000) })?.message.length, 1024);
  for (const wrong of [undefined, null, "m", { reason: "Complete", message: "m" }, { ...trouble, message: 7 }])
    assert.equal(parse(wrong), undefined);
});

for (const [name, answer, want] of answers)
  test(`progress of a pod: ${name} is ${want ? "taken" : "left out"}`, () =>
    assert.equal(
      parseProgress(typeof answer === "string" ? answer : JSON.stringify(answer), "e", "p") !== undefined,
      want,
    ));

test("progress: types with impossible names or counts are left out", () => {
  const types = [
    { type: "Patient", ...totals },
    { type: "<b>", ...totals },
    { type: "Group", ...totals, files: "1" },
    { type: 7, ...totals },
  ];
  assert.deepEqual(parseProgress(JSON.stringify({ ...progress, types }), "e", "p")?.types, [types[0]]);
});

const object = (resourceVersion: string, uid = "u") => ({ metadata: { name: "x", uid, resourceVersion } });
test("overlay: our write is newer than the versions that it was based on, and older than all others", () => {
  const overlay = new Overlay<ReturnType<typeof object>>();
  assert.equal(overlay.newest("k", undefined), undefined);
  const [one, two, three] = [object("1"), object("7"), object("9")];
  overlay.wrote("k", one, two);
  overlay.wrote("k", two, three);
  assert.equal(overlay.newest("k", object("1")), three, "two writes behind");
  assert.equal(overlay.newest("k", object("7")), three, "one write behind");
  const other = object("12");
  assert.equal(overlay.newest("k", other), other, "someone wrote after us");
  assert.equal(overlay.newest("k", one), one, "and then ours is forgotten");
  overlay.wrote("k", one, two);
  const again = object("1", "another uid");
  assert.equal(overlay.newest("k", again), again, "deleted and made anew");
  overlay.wrote("k", one, two);
  assert.equal(overlay.newest("k", undefined), undefined, "deleted");
});

test("owned: objects are found by their export as they are made, changed and deleted", () => {
  const pod = (uid: string, name = "x") => ({
    metadata: { name: "p", labels: { "fhirexport.dev/export-uid": uid, "fhirexport.dev/export": name } },
  });
  const owned = new Owned<{ metadata: { name: string; labels?: Record<string, string> } }>();
  const [a, b] = [pod("a"), pod("b", "y")];
  assert.equal(owned.note("ns/1", a), "x");
  owned.note("ns/2", a);
  assert.deepEqual(owned.of("a"), [a, a]);
  assert.equal(owned.note("ns/1", b), "y", "its label was edited");
  assert.deepEqual([owned.of("a"), owned.of("b")], [[a], [b]]);
  assert.equal(owned.note("ns/2", undefined), "x", "who is to be told that it is gone");
  assert.deepEqual(owned.of("a"), []);
  assert.equal(owned.note("ns/3", { metadata: { name: "p" } }), undefined);
  assert.equal(owned.note("ns/4", undefined), undefined);
});

test("operator options: flags before environment, numbers checked", () => {
  const env = {
    FHIR_EXPORT_IMAGE: "i",
    FHIR_EXPORT_NAMESPACE: "a, b,a",
    FHIR_EXPORT_RETRY_SECONDS: "5",
    FHIR_EXPORT_LISTEN: "127.0.0.1:0",
  };
  const options = parseOperatorOptions(["--retry-seconds", "7", "--shard-resources=500"], env);
  assert.deepEqual(options?.namespaces, ["a", "b"]);
  assert.deepEqual(
    [options?.settings.retrySeconds, options?.settings.shardResources, options?.settings.inlineResources],
    [7, 500, 200_000],
  );
  assert.deepEqual(options?.listen, { host: "127.0.0.1", port: 0 });
  assert.deepEqual(parseOperatorOptions(["--image", "i", "--listen", "[::1]:9"], {})?.listen, { host: "::1", port: 9 });
  assert.equal(parseOperatorOptions(["--help"], {}), undefined);
  const wrong: [string[], RegExp][] = [
    [[], /--image/],
    [["--image", "i", "--workers", "0"], /--workers must be/],
    [["--image", "i", "--workers", "many"], /--workers must be/],
    [["--image", "i", "--listen", "9"], /--listen must have/],
    [["--image", "i", "--listen", ":99999"], /--listen must have/],
    [["--imaeg", "i"], /--imaeg/],
    [
      ["--image", "i", "--leader-elect", "--renew-seconds", "15"],
      /--lease-seconds must be greater than --renew-seconds/,
    ],
    [
      ["--image", "i", "--retry-period-seconds", "9"],
      /--renew-seconds must be greater than 1.2 times --retry-period-seconds/,
    ],
    [["--image", "i", "--lease-seconds", "0"], /--lease-seconds must be/],
  ];
  for (const [args, message] of wrong) assert.throws(() => parseOperatorOptions(args, {}), message);
});

test("operator options: leader election is off unless a flag or the environment turns it on", () => {
  const election = (args: string[], env = {}) => parseOperatorOptions(["--image", "i", ...args], env)?.election;
  const times = { leaseSeconds: 15, renewSeconds: 10, retrySeconds: 2 };
  assert.equal(election([]), undefined);
  assert.equal(election([], { FHIR_EXPORT_LEADER_ELECT: "false" }), undefined);
  assert.deepEqual(election(["--leader-elect"]), { ...times, name: "fhir-export-operator" });
  assert.deepEqual(election(["--leader-elect"], { FHIR_EXPORT_LEADER_ELECT: "false" }), {
    ...times,
    name: "fhir-export-operator",
  });
  const env = {
    FHIR_EXPORT_LEADER_ELECT: "true",
    FHIR_EXPORT_LEASE_NAME: "l",
    FHIR_EXPORT_LEASE_NAMESPACE: "n",
    FHIR_EXPORT_LEASE_SECONDS: "60",
    FHIR_EXPORT_RENEW_SECONDS: "40",
    FHIR_EXPORT_RETRY_PERIOD_SECONDS: "5",
  };
  assert.deepEqual(election([], env), {
    leaseSeconds: 60,
    renewSeconds: 40,
    retrySeconds: 5,
    name: "l",
    namespace: "n",
  });
  assert.throws(
    () => election([], { FHIR_EXPORT_LEADER_ELECT: "yes" }),
    /FHIR_EXPORT_LEADER_ELECT must be true or false/,
  );
});

test("health: /readyz follows readiness; metrics have controller-runtime's names and start at zero", async () => {
  const metrics = makeMetrics();
  startAtZero(metrics, "fhirexport");
  let ready = false;
  const health = await serveHealth({ host: "127.0.0.1", port: 0 }, () => ready, metrics.registry);
  try {
    const get = (path: string) => fetch(`http://127.0.0.1:${health.port}${path}`);
    assert.equal((await get("/healthz")).status, 200);
    assert.equal((await get("/readyz")).status, 503);
    ready = true;
    assert.equal((await get("/readyz?verbose")).status, 200);
    assert.equal((await get("/other")).status, 404);
    const text = await (await get("/metrics")).text();
    assert.match(text, /^controller_runtime_reconcile_total\{controller="fhirexport",result="error"\} 0$/m);
    assert.match(text, /^process_resident_memory_bytes /m);
  } finally {
    health.close();
  }
});

test("progress poller: only running pods that plan or export are asked, and silent ones do no harm", async () => {
  // The port is fixed, so the test uses an address of its own.
  const { ProgressPoller } = await import("../../src/kube/progress.ts");
  const server: Server = createServer((_, response) => response.end(JSON.stringify({ ...progress, podUID: "p1" })));
  await new Promise<void>((resolve) => server.listen(9464, "127.77.1.1", resolve));
  let asked = 0;
  const planner = createServer((_, response) => {
    asked++;
    response.end(JSON.stringify({ ...progress, podUID: "p5" }));
  });
  await new Promise<void>((resolve) => planner.listen(9464, "127.77.1.3", resolve));
  try {
    assert.equal((server.address() as AddressInfo).port, 9464);
    const pod = (uid: string, podIP: string, phase = "Running", command = "export") => ({
      metadata: {
        name: uid,
        uid,
        namespace: "ns",
        labels: { "fhirexport.dev/export-uid": "e", "fhirexport.dev/export": "x", "fhirexport.dev/command": command },
      },
      status: { phase, podIP },
    });
    const pods = [
      pod("p1", "127.77.1.1"),
      pod("p2", "127.77.1.2"),
      pod("p3", "127.77.1.1", "Pending"),
      pod("p4", "127.77.1.3", "Running", "seal"),
      pod("p5", "127.77.1.3", "Running", "plan"),
    ];
    const changed: string[] = [];
    const poller = new ProgressPoller(
      () => pods,
      (key) => changed.push(key),
    );
    await poller.poll(new AbortController().signal);
    assert.deepEqual(
      poller.of(["p1", "p2", "p3", "p4", "p5"]).map(({ podUID }) => podUID),
      ["p1", "p5"],
    );
    assert.deepEqual(changed, ["ns/x", "ns/x"]);
    assert.deepEqual(asked, 1, "of two pods at one address only the one that plans");
    await poller.poll(new AbortController().signal);
    assert.deepEqual(changed, ["ns/x", "ns/x"], "told of changes only");
    pods.shift();
    await poller.poll(new AbortController().signal);
    assert.deepEqual(poller.of(["p1"]), [], "a pod that is gone is forgotten");
    await poller.close();
  } finally {
    for (const one of [server, planner]) {
      one.closeAllConnections();
      one.close();
    }
  }
});
