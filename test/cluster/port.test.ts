import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { FhirExport } from "../../src/api/fhirexport.gen.ts";
import { runName, taskName } from "../../src/api/names.ts";
import type { Effect, RunSpec } from "../../src/effects.ts";
import { FailureError } from "../../src/failure.ts";
import { KubeClient, type KubeObject, pathOf, resources } from "../../src/kube/client.ts";
import { isAlreadyExists, isConflict, isNotFound } from "../../src/kube/error.ts";
import { Overlay } from "../../src/kube/overlay.ts";
import { Owned } from "../../src/kube/owned.ts";
import { KubePort } from "../../src/kube/port.ts";
import type { Job, Pod } from "../../src/kube/view.ts";
import { makeLogger } from "../../src/log.ts";
import type { ExportWorld } from "../../src/operator/port.ts";
import { defaultSettings } from "../../src/operator/settings.ts";
import { makeRun, makeTask } from "../../src/operator/task.ts";
import { makeSource, makeTarget } from "../operator/fake.ts";
import { makeNamespace, type Namespace, needsPlane, planeUsers, until } from "../tools/namespace.ts";
import { applyRBAC } from "./rbac.ts";

interface Thing extends KubeObject {
  [field: string]: unknown;
}
describe("the Port over an API server, with the operator's rights", needsPlane, () => {
  let ns: Namespace;
  let operator: KubeClient;
  let port: KubePort;
  const cache = new Map<string, FhirExport>();
  const jobs = new Owned<Job>();

  before(async () => {
    ns = await makeNamespace({ "pod-security.kubernetes.io/enforce": "restricted" });
    await applyRBAC(ns.client);
    operator = KubeClient.load(planeUsers().operator);
    await until("the operator's rights", async () => {
      try {
        return await operator.list(pathOf(resources.fhirExports));
      } catch {
        return undefined;
      }
    });
    const none = { get: () => undefined, list: () => [] };
    const seen = {
      exports: { get: (key: string) => cache.get(key), list: () => cache.values() },
      sources: none,
      targets: none,
      jobs,
      pods: new Owned<Pod>(),
      written: new Overlay<FhirExport>(),
      progress: () => [],
    };
    port = new KubePort(operator, seen, { image: "image:1", volumeRoot: "/export" }, makeLogger({}, "silent"));
  });
  after(async () => {
    await operator?.close();
    await ns?.remove();
  });

  let count = 0;
  /** Makes an admitted export. @returns its world */
  async function admitted(spec: Partial<FhirExport["spec"]> = {}): Promise<ExportWorld> {
    const path = pathOf(resources.fhirExports, { namespace: ns.name });
    const given = {
      apiVersion: "fhirexport.dev/v1alpha1",
      kind: "FhirExport",
      metadata: { name: `x${count++}` },
      spec: { sourceRef: { name: "s" }, targetRef: { name: "t" }, ...spec },
    } as FhirExport;
    const made = await ns.client.create<FhirExport & KubeObject>(path, given);
    const status = {
      attempt: 1,
      run: makeRun(
        { export: made, source: makeSource(), target: makeTarget() },
        { attempt: 1, startTime: "2026-03-04T05:06:07Z" },
        { ...defaultSettings, image: "image:1" },
      ),
    };
    const object = await ns.client.replace<FhirExport & KubeObject>(`${path}/${made.metadata.name}/status`, {
      ...made,
      status,
    });
    cache.set(`${ns.name}/${object.metadata.name}`, object);
    return { export: object, runs: {}, running: { source: 0, all: 0, ahead: 0 } };
  }
  const runSpec = (world: ExportWorld, more: Partial<RunSpec> = {}): RunSpec => ({
    name: runName(world.export.metadata, more.command ?? "plan", 1),
    command: "plan",
    attempt: 1,
    completions: 1,
    parallelism: 1,
    suspend: false,
    ...more,
  });
  const task = (world: ExportWorld, name = "x") => ({
    ...makeTask(
      { export: world.export, source: makeSource(), target: makeTarget() },
      world.export.status!.run!,
      defaultSettings,
    ),
    name,
  });
  const ensure = (world: ExportWorld, run: RunSpec) => port.apply(world, { do: "ensureRun", run });
  const job = (world: ExportWorld, name = runName(world.export.metadata, "plan", 1)) =>
    ns.client.get<Job & KubeObject>(pathOf(resources.jobs, { namespace: ns.name, name }));
  const secretOf = async (world: ExportWorld) => {
    const secret = await ns.client.get<Thing>(
      pathOf(resources.secrets, { namespace: ns.name, name: taskName(world.export.metadata, 1) }),
    );
    const { "task.json": text } = secret.data as Record<string, string>;
    return {
      uid: secret.metadata.uid,
      immutable: secret.immutable,
      task: JSON.parse(Buffer.from(text!, "base64").toString()),
    };
  };
  const failure = async (call: Promise<unknown>): Promise<FailureError> => {
    try {
      await call;
    } catch (error) {
      assert.ok(error instanceof FailureError, String(error));
      return error;
    }
    throw new Error("nothing was refused");
  };

  test("a run has one Secret and one Job, however often it is asked for", async () => {
    const world = await admitted();
    await ensure(world, runSpec(world, { task: task(world) }));
    const first = await job(world);
    await ensure(world, runSpec(world, { task: task(world) }));
    assert.equal((await job(world)).metadata.uid, first.metadata.uid);
    const { task: written, immutable } = await secretOf(world);
    assert.equal(written.uid, world.export.metadata.uid);
    assert.equal(immutable, true);
    assert.equal(first.metadata.ownerReferences?.[0]?.uid, world.export.metadata.uid);
  });

  test("a Task Secret of an older decision is made anew while no Job can have mounted it, and kept afterwards", async () => {
    const world = await admitted();
    const path = pathOf(resources.secrets, { namespace: ns.name });
    await ensure(world, runSpec(world, { task: task(world, "old") }));
    await ns.client.delete(pathOf(resources.jobs, { namespace: ns.name, name: runSpec(world).name }), {
      propagationPolicy: "Background",
    });
    await until(
      "the Job is gone",
      async () =>
        (await job(world).catch((error) => (isNotFound(error) ? undefined : Promise.reject(error)))) === undefined,
    );
    const before = await secretOf(world);
    await ensure(world, runSpec(world, { task: task(world, "new") }));
    const between = await secretOf(world);
    assert.deepEqual([before.task.name, between.task.name], ["old", "new"]);
    await ensure(world, runSpec(world, { task: task(world, "newer") }));
    assert.equal((await secretOf(world)).uid, between.uid, "a Job is there");
    await ns.client.delete(pathOf(resources.jobs, { namespace: ns.name, name: runSpec(world).name }), {
      propagationPolicy: "Background",
    });
    await until(
      "the Job is gone",
      async () =>
        (await job(world).catch((error) => (isNotFound(error) ? undefined : Promise.reject(error)))) === undefined,
    );
    await ensure(world, runSpec(world, { command: "purge", task: task(world, "purge") }));
    assert.equal((await secretOf(world)).task.name, "new", "what comes after the plan takes it as it is");
    assert.ok(path);
  });

  test("a Job of that name that belongs to something else is not adopted", async () => {
    const world = await admitted();
    const spec = runSpec(world, { task: task(world) });
    const container = {
      name: "c",
      image: "i",
      securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ["ALL"] } },
    };
    const template = {
      spec: {
        restartPolicy: "Never",
        containers: [container],
        securityContext: { runAsNonRoot: true, seccompProfile: { type: "RuntimeDefault" } },
      },
    };
    const other: Thing = {
      apiVersion: "batch/v1",
      kind: "Job",
      metadata: { name: spec.name },
      spec: { suspend: true, template },
    };
    await ns.client.create(pathOf(resources.jobs, { namespace: ns.name }), other);
    const { class: kind, message } = await failure(ensure(world, spec));
    assert.equal(kind, "terminal");
    assert.match(message, new RegExp(`Job ${spec.name} exists and belongs to something else`));
  });

  test("spec.worker that no pod can have is a terminal failure, which says what to mend", async () => {
    const world = await admitted({
      worker: {
        affinity: {
          nodeAffinity: {
            requiredDuringSchedulingIgnoredDuringExecution: {
              nodeSelectorTerms: [{ matchExpressions: [{ key: "a", operator: "Near" }] }],
            },
          },
        },
      },
    });
    world.export.status!.run!.worker = world.export.spec.worker!;
    const { class: kind, message } = await failure(ensure(world, runSpec(world, { task: task(world) })));
    assert.equal(kind, "terminal");
    assert.match(message, /mend spec.worker and raise retry .*affinity/);
    world.export.status!.run!.worker = { affinity: { podAffinty: {} } };
    assert.match(
      (await failure(ensure(world, runSpec(world, { command: "seal", name: `${runSpec(world).name}-b` })))).message,
      /mend spec.worker/,
    );
  });

  test("a quota of Jobs is a waiting failure with the API server's text", async () => {
    const world = await admitted();
    const quotas = pathOf({ api: "/api/v1", plural: "resourcequotas" }, { namespace: ns.name });
    const quota: Thing = {
      apiVersion: "v1",
      kind: "ResourceQuota",
      metadata: { name: "q" },
      spec: { hard: { "count/jobs.batch": "0" } },
    };
    await ns.client.create(quotas, quota);
    try {
      // A quota counts only after its controller has computed it.
      await until(
        "the quota's status",
        async () => ((await ns.client.get<Thing>(`${quotas}/q`)).status as { hard?: object } | undefined)?.hard,
      );
      const { class: kind, message } = await failure(ensure(world, runSpec(world, { task: task(world) })));
      assert.equal(kind, "waiting");
      assert.match(message, /exceeded quota: q/);
    } finally {
      await ns.client.delete(`${quotas}/q`);
    }
  });

  test("runs are changed and deleted by UID only", async () => {
    const world = await admitted();
    const spec = runSpec(world, { task: task(world), command: "export", completions: 5, parallelism: 4 });
    await ensure(world, spec);
    const { metadata } = await job(world, spec.name);
    const view = (uid: string) => ({
      ...world,
      runs: {
        export: {
          name: spec.name,
          uid,
          ours: true,
          attempt: 1,
          state: "active" as const,
          live: 0,
          done: 0,
          reports: [],
          progress: [],
        },
      },
    });
    const [mine, stale] = [view(metadata.uid!), view("00000000-0000-0000-0000-000000000000")];
    const set: Omit<Extract<Effect, { do: "setRun" }>, "uid"> = { do: "setRun", suspend: true, parallelism: 2 };
    await port.apply(stale, { ...set, uid: stale.runs.export.uid });
    assert.deepEqual(
      [(await job(world, spec.name)).spec.suspend, (await job(world, spec.name)).spec.parallelism],
      [false, 4],
    );
    await port.apply(mine, { ...set, uid: mine.runs.export.uid });
    assert.deepEqual(
      [(await job(world, spec.name)).spec.suspend, (await job(world, spec.name)).spec.parallelism],
      [true, 2],
    );
    await port.apply(stale, { do: "deleteRun", uid: stale.runs.export.uid });
    assert.equal((await job(world, spec.name)).metadata.deletionTimestamp, undefined);
    await port.apply(mine, { do: "deleteRun", uid: mine.runs.export.uid });
    await until(
      "the Job is gone",
      async () =>
        (await job(world, spec.name).catch((error) => (isNotFound(error) ? undefined : Promise.reject(error)))) ===
        undefined,
    );
    await port.apply(mine, { do: "deleteRun", uid: mine.runs.export.uid });
    await port.apply(mine, { ...set, uid: mine.runs.export.uid });
  });

  test("outcome, finalizer, then status, on one version after the other; an old version writes nothing", async () => {
    const world = await admitted();
    const old = structuredClone(world);
    await port.apply(world, { do: "finalizer", on: true });
    await port.apply(world, { do: "outcome", value: "Failed", attempt: 1 });
    await port.writeStatus(world, { ...world.export.status, attempt: 1, startTime: "2026-03-04T05:06:07Z" });
    const { metadata, status } = await ns.client.get<FhirExport & KubeObject>(
      pathOf(resources.fhirExports, { namespace: ns.name, name: world.export.metadata.name }),
    );
    assert.deepEqual(
      [metadata.finalizers, metadata.annotations?.["fhirexport.dev/outcome"], status?.startTime],
      [["fhirexport.dev/output"], "Failed/1", "2026-03-04T05:06:07Z"],
    );
    assert.equal(
      (await port.gather(`${ns.name}/${metadata.name}`))?.export.metadata.resourceVersion,
      metadata.resourceVersion,
      "what was written is seen before the cache shows it",
    );
    await assert.rejects(port.apply(old, { do: "outcome", value: "Complete", attempt: 1 }), isConflict);
    await assert.rejects(port.writeStatus(old, { attempt: 7 }), isConflict);
    await port.apply(world, { do: "finalizer", on: false });
    await port.apply(old, { do: "deleteExport" });
    await until(
      "it is deleted",
      async () =>
        await ns.client
          .get(pathOf(resources.fhirExports, { namespace: ns.name, name: metadata.name }))
          .then(() => undefined, isNotFound),
    );
  });

  test("an event is made once", async () => {
    const world = await admitted();
    const event: Effect = { do: "event", warning: true, reason: "SourceUnreachable", note: "no answer" };
    await port.apply(world, event);
    await port.apply(world, event);
    const events = (await ns.client.list<Thing>(pathOf(resources.events, { namespace: ns.name }))).items.filter(
      ({ reason }) => reason === "SourceUnreachable",
    );
    assert.deepEqual(
      events.map(({ type, note, regarding }) => [type, note, (regarding as KubeObject & { name: string }).name]),
      [["Warning", "no answer", world.export.metadata.name]],
    );
  });

  test("the Jobs of a cancelled export are listed live: a Job that no cache shows counts", async () => {
    const world = await admitted();
    await ensure(world, runSpec(world, { task: task(world) }));
    const key = `${ns.name}/${world.export.metadata.name}`;
    assert.deepEqual((await port.gather(key))?.runs, {}, "the cache is empty");
    cache.set(key, { ...world.export, spec: { ...world.export.spec, cancel: true } });
    assert.equal((await port.gather(key))?.runs.plan?.name, runSpec(world).name);
  });

  test("the operator can read no Secret", async () => {
    const path = pathOf(resources.secrets, { namespace: ns.name });
    await assert.rejects(operator.list(path), /403/);
    await assert.rejects(operator.get(`${path}/any`), /403/);
    assert.equal(isAlreadyExists(undefined), false);
  });
});
