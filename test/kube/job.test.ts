import assert from "node:assert/strict";
import { test } from "node:test";
import type { FhirExportSpec } from "../../src/api/fhirexport.gen.ts";
import type { Command } from "../../src/contracts.ts";
import { makeJob } from "../../src/kube/job.ts";
import { makeTaskSecret } from "../../src/kube/task-secret.ts";
import { defaultSettings } from "../../src/operator/settings.ts";
import { makeRun, makeTask } from "../../src/operator/task.ts";
import { makeExport, makeSource, makeTarget, uid } from "../operator/fake.ts";

const settings = { image: "registry.example/fhir-export:1", volumeRoot: "/export" };
const secretRef = { name: "creds" };

function jobOf(
  command: Command,
  given: {
    spec?: Partial<FhirExportSpec>;
    source?: object;
    target?: Parameters<typeof makeTarget>[0];
    suspend?: boolean;
  } = {},
) {
  const object = makeExport(given.spec);
  const run = makeRun(
    { export: object, source: makeSource(given.source), target: makeTarget(given.target) },
    { attempt: 1, startTime: "2026-03-04T05:06:07Z" },
    defaultSettings,
  );
  const spec = {
    name: `x-0a1b2c3d-${command}-1`,
    command,
    attempt: 1,
    completions: command === "export" ? 3 : 1,
    parallelism: command === "export" ? 2 : 1,
    suspend: given.suspend ?? false,
  };
  return makeJob(object, run, spec, settings);
}
const podOf = (...given: Parameters<typeof jobOf>) => jobOf(...given).spec.template.spec;

const labels = {
  "fhirexport.dev/export-uid": uid,
  "fhirexport.dev/export": "x",
  "fhirexport.dev/command": "export",
  "fhirexport.dev/attempt": "1",
  "app.kubernetes.io/managed-by": "fhir-export",
};

test("the whole export Job", () =>
  assert.deepEqual(jobOf("export", { source: { auth: { basic: { secretRef } }, tls: { caRef: { name: "ca" } } } }), {
    apiVersion: "batch/v1",
    kind: "Job",
    metadata: {
      name: "x-0a1b2c3d-export-1",
      namespace: "ns",
      labels,
      ownerReferences: [
        {
          apiVersion: "fhirexport.dev/v1alpha1",
          kind: "FhirExport",
          name: "x",
          uid,
          controller: true,
          blockOwnerDeletion: true,
        },
      ],
    },
    spec: {
      completions: 3,
      parallelism: 2,
      podReplacementPolicy: "Failed",
      podFailurePolicy: {
        rules: [
          { action: "Ignore", onPodConditions: [{ type: "DisruptionTarget", status: "True" }] },
          { action: "FailJob", onExitCodes: { containerName: "worker", operator: "In", values: [64] } },
        ],
      },
      completionMode: "Indexed",
      backoffLimitPerIndex: 6,
      maxFailedIndexes: 0,
      template: {
        metadata: { labels },
        spec: {
          restartPolicy: "Never",
          automountServiceAccountToken: false,
          enableServiceLinks: false,
          terminationGracePeriodSeconds: 30,
          securityContext: {
            runAsNonRoot: true,
            runAsUser: 65532,
            runAsGroup: 65532,
            fsGroup: 65532,
            fsGroupChangePolicy: "OnRootMismatch",
            seccompProfile: { type: "RuntimeDefault" },
          },
          containers: [
            {
              name: "worker",
              image: "registry.example/fhir-export:1",
              args: ["worker", "export"],
              env: [
                { name: "POD_IP", valueFrom: { fieldRef: { fieldPath: "status.podIP" } } },
                { name: "FHIR_EXPORT_POD_UID", valueFrom: { fieldRef: { fieldPath: "metadata.uid" } } },
                { name: "NODE_OPTIONS", value: "--max-semi-space-size=1" },
                { name: "FHIR_EXPORT_TASK", value: "/run/fhir-export/task.json" },
                { name: "FHIR_EXPORT_UID", value: uid },
                { name: "FHIR_EXPORT_TERMINATION", value: "/dev/termination-log" },
                { name: "FHIR_EXPORT_PROGRESS", value: "$(POD_IP):9464" },
              ],
              ports: [{ name: "progress", containerPort: 9464 }],
              resources: { requests: { cpu: "250m", memory: "256Mi" }, limits: { memory: "512Mi" } },
              terminationMessagePath: "/dev/termination-log",
              terminationMessagePolicy: "File",
              securityContext: {
                allowPrivilegeEscalation: false,
                readOnlyRootFilesystem: true,
                capabilities: { drop: ["ALL"] },
              },
              volumeMounts: [
                { name: "task", mountPath: "/run/fhir-export", readOnly: true },
                { name: "tmp", mountPath: "/tmp" },
              ],
            },
          ],
          volumes: [
            {
              name: "task",
              projected: {
                defaultMode: 0o440,
                sources: [
                  { secret: { name: "x-0a1b2c3d-task-1", items: [{ key: "task.json", path: "task.json" }] } },
                  {
                    secret: {
                      name: "creds",
                      items: [
                        { key: "username", path: "source/username" },
                        { key: "password", path: "source/password" },
                      ],
                    },
                  },
                  { configMap: { name: "ca", items: [{ key: "ca.crt", path: "source/ca.crt" }] } },
                  { secret: { name: "sas", items: [{ key: "sas-token", path: "target/sas-token" }] } },
                ],
              },
            },
            { name: "tmp", emptyDir: { sizeLimit: "64Mi" } },
          ],
        },
      },
    },
  }));

for (const command of ["plan", "seal", "purge"] as const)
  test(`the ${command} Job has one pod, which Kubernetes does not repeat`, () => {
    const { spec } = jobOf(command);
    assert.equal((spec as { backoffLimit?: number }).backoffLimit, 0);
    assert.equal(spec.completions, 1);
    assert.ok(!("completionMode" in spec) && !("backoffLimitPerIndex" in spec));
    assert.deepEqual(spec.template.spec.containers[0]!.args, ["worker", command]);
  });

const files: [string, object, Parameters<typeof makeTarget>[0], object[]][] = [
  [
    "bearer",
    { auth: { bearer: { secretRef } } },
    { volume: { claimName: "c" } },
    [{ secret: { name: "creds", items: [{ key: "token", path: "source/token" }] } }],
  ],
  [
    "oauth2",
    { auth: { oauth2: { tokenURL: "https://a.example/t", clientID: "i", secretRef } } },
    { volume: { claimName: "c" } },
    [{ secret: { name: "creds", items: [{ key: "client-secret", path: "source/client-secret" }] } }],
  ],
  [
    "smart",
    { auth: { smart: { clientID: "i", secretRef } } },
    { volume: { claimName: "c" } },
    [{ secret: { name: "creds", items: [{ key: "private-key.jwk", path: "source/private-key.jwk" }] } }],
  ],
  [
    "a CA in a Secret",
    { tls: { caRef: { kind: "Secret", name: "ca" } } },
    { volume: { claimName: "c" } },
    [{ secret: { name: "ca", items: [{ key: "ca.crt", path: "source/ca.crt" }] } }],
  ],
  [
    "headers and a proxy",
    {
      headers: [
        { name: "X-Tenant", value: "seven" },
        { name: "X-API-Key", secretRef: { name: "gateway", key: "api-key" } },
      ],
      proxy: { url: "http://proxy.example.org:3128", secretRef: { name: "proxy" } },
    },
    { volume: { claimName: "c" } },
    [
      { secret: { name: "gateway", items: [{ key: "api-key", path: "source/header-1" }] } },
      {
        secret: {
          name: "proxy",
          items: [
            { key: "username", path: "source/proxy-username" },
            { key: "password", path: "source/proxy-password" },
          ],
        },
      },
    ],
  ],
  [
    "a client certificate beside the sign-in",
    { auth: { bearer: { secretRef } }, tls: { clientCertificateRef: { name: "worker-tls" } } },
    { volume: { claimName: "c" } },
    [
      { secret: { name: "creds", items: [{ key: "token", path: "source/token" }] } },
      {
        secret: {
          name: "worker-tls",
          items: [
            { key: "tls.crt", path: "source/tls.crt" },
            { key: "tls.key", path: "source/tls.key" },
          ],
        },
      },
    ],
  ],
  [
    "connection string",
    {},
    { azureBlob: { accountURL: "https://a.example", auth: { connectionStringRef: secretRef } } },
    [{ secret: { name: "creds", items: [{ key: "connection-string", path: "target/connection-string" }] } }],
  ],
  ["none at all", {}, { volume: { claimName: "c" } }, []],
];
for (const [name, source, target, want] of files)
  test(`credentials as files: ${name}`, () => {
    const task = podOf("plan", { source, target }).volumes[0] as { projected: { sources: object[] } };
    assert.deepEqual(task.projected.sources.slice(1), want);
  });

test("a volume target is mounted", () => {
  const pod = podOf("export", { target: { volume: { claimName: "claim" } } });
  assert.deepEqual(pod.volumes.at(-1), { name: "target", persistentVolumeClaim: { claimName: "claim" } });
  assert.deepEqual(pod.containers[0]!.volumeMounts.at(-1), { name: "target", mountPath: "/export" });
});

test("workload identity: the pod has its service account and the label that the webhook looks for", () => {
  const job = jobOf("plan", {
    target: {
      azureBlob: { accountURL: "https://a.example", auth: { workloadIdentity: { serviceAccountName: "exporter" } } },
    },
  });
  assert.equal(job.spec.template.spec.serviceAccountName, "exporter");
  assert.equal(job.spec.template.spec.automountServiceAccountToken, false);
  assert.equal((job.spec.template.metadata.labels as Record<string, string>)["azure.workload.identity/use"], "true");
});

test("Kueue: the Job has its label and is made suspended", () => {
  const job = jobOf("export", { spec: { queueName: "batch" }, suspend: true });
  assert.equal((job.metadata.labels as Record<string, string>)["kueue.x-k8s.io/queue-name"], "batch");
  assert.equal(job.spec.suspend, true);
});

test("worker: only the fields of the closed list reach the pod", () => {
  const worker = {
    resources: { requests: { cpu: "2" }, limits: { memory: "1Gi", "example.com/gpu": 1 } },
    nodeSelector: { pool: "batch" },
    tolerations: [{ operator: "Exists" as const }],
    affinity: { nodeAffinity: {} },
    priorityClassName: "low",
    image: "evil",
    env: [{ name: "A", value: "b" }],
    volumes: [{ name: "host", hostPath: { path: "/" } }],
    serviceAccountName: "admin",
  };
  const pod = podOf("export", { spec: { worker } });
  assert.deepEqual(pod.containers[0]!.resources, {
    requests: { cpu: "2", memory: "256Mi" },
    limits: { memory: "1Gi", "example.com/gpu": 1 },
  });
  const { nodeSelector, tolerations, affinity, priorityClassName } = pod;
  assert.deepEqual(
    { nodeSelector, tolerations, affinity, priorityClassName },
    {
      nodeSelector: worker.nodeSelector,
      tolerations: worker.tolerations,
      affinity: worker.affinity,
      priorityClassName: "low",
    },
  );
  const plain = podOf("export");
  assert.deepEqual(
    Object.keys(pod)
      .filter((key) => !(key in plain))
      .sort(),
    ["affinity", "nodeSelector", "priorityClassName", "tolerations"],
  );
  assert.deepEqual(
    [pod.containers[0]!.image, pod.containers[0]!.env, pod.volumes],
    [plain.containers[0]!.image, plain.containers[0]!.env, plain.volumes],
  );
});

test("patients, filters and the group are in the Task Secret and nowhere else", () => {
  const spec = {
    level: "Group",
    groupId: "GROUP-7",
    patients: ["PATIENT-7"],
    typeFilters: ["Observation?code=FILTER-7"],
    origin: { client: "CLIENT-7", request: "https://h.example/x?_typeFilter=FILTER-7" },
  } as const;
  const object = makeExport(spec as unknown as Partial<FhirExportSpec>);
  const resolved = { export: object, source: makeSource(), target: makeTarget() };
  const run = makeRun(resolved, { attempt: 1, startTime: "2026-03-04T05:06:07Z" }, defaultSettings);
  const secret = makeTaskSecret(object, makeTask(resolved, run, defaultSettings));
  const task = Buffer.from(secret.data["task.json"], "base64").toString();
  for (const word of ["GROUP-7", "PATIENT-7", "FILTER-7"]) {
    assert.match(task, new RegExp(word));
    assert.doesNotMatch(
      JSON.stringify([jobOf("export", { spec: spec as unknown as Partial<FhirExportSpec> }), run, secret.metadata]),
      new RegExp(word),
    );
  }
  assert.equal(secret.immutable, true);
  assert.equal(secret.metadata.name, "x-0a1b2c3d-task-1");
});
