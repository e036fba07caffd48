import type { FhirExport, FhirExportRun } from "../api/fhirexport.gen.ts";
import { apiVersion, runLabels, taskName } from "../api/names.ts";
import { exitCode } from "../contracts.ts";
import type { RunSpec } from "../effects.ts";
import { workerNodeOptions } from "../node-flags.ts";

/** Where a worker finds its Task and the credentials. It is one projected volume, in which a rotated Secret appears; a
 *  subPath would keep the old one. */
const taskFolder = "/run/fhir-export";
/** The port on which a worker serves /progress. */
export const progressPort = 9464;

/** The operator's own settings for every worker pod. */
export interface PodSettings {
  image: string;
  imagePullPolicy?: string;
  imagePullSecrets?: string[];
  /** where the volume of a target is mounted */
  volumeRoot: string;
}

/** The files with credentials, by kind of sign-in. The keys of the Secrets have the same names (contracts.ts). */
const sourceFiles: Record<string, string[]> = {
  basic: ["username", "password"],
  bearer: ["token"],
  oauth2: ["client-secret"],
  smart: ["private-key.jwk"],
};
const targetFiles: Record<string, string[]> = { connectionString: ["connection-string"], sas: ["sas-token"] };

/** The batch/v1 Job of a run. Its pods hold no Kubernetes credentials and conform to Pod Security "restricted".
 *  @param run what the attempt was started with (status.run) */
export function makeJob(object: FhirExport, run: FhirExportRun, spec: RunSpec, settings: PodSettings) {
  const { metadata } = object;
  const { command, attempt, name, completions, parallelism, suspend } = spec;
  const labels = runLabels(metadata, command, attempt);
  const indexed = command === "export";
  const { queueName } = object.spec;
  return {
    apiVersion: "batch/v1",
    kind: "Job",
    metadata: {
      name,
      namespace: metadata.namespace ?? "default",
      labels: { ...labels, ...(queueName ? { "kueue.x-k8s.io/queue-name": queueName } : {}) },
      ownerReferences: [ownerReference(object)],
    },
    spec: {
      completions,
      parallelism,
      ...(suspend ? { suspend: true } : {}),
      // A pod is replaced only when it has ended, as each index has one writer of its files.
      podReplacementPolicy: "Failed",
      // The eviction of a pod is no failure. An exit that no retry can mend ends the whole run.
      podFailurePolicy: {
        rules: [
          { action: "Ignore", onPodConditions: [{ type: "DisruptionTarget", status: "True" }] },
          { action: "FailJob", onExitCodes: { containerName: "worker", operator: "In", values: [exitCode.terminal] } },
        ],
      },
      ...(indexed ? { completionMode: "Indexed", backoffLimitPerIndex: 6, maxFailedIndexes: 0 } : { backoffLimit: 0 }),
      template: {
        metadata: { labels: { ...labels, ...identityLabel(run) } },
        spec: podSpec(object, run, spec, settings),
      },
    },
  };
}

/** What makes an export own an object: Kubernetes deletes the object with it. */
export const ownerReference = ({ metadata }: FhirExport) => ({
  apiVersion,
  kind: "FhirExport",
  name: metadata.name,
  uid: metadata.uid ?? "",
  controller: true,
  blockOwnerDeletion: true,
});

/** The label by which the webhook of Microsoft Entra finds pods that need an identity. */
const identityLabel = (run: FhirExportRun) => (run.serviceAccountName ? { "azure.workload.identity/use": "true" } : {});

function podSpec(object: FhirExport, run: FhirExportRun, spec: RunSpec, settings: PodSettings) {
  const { resources, nodeSelector, tolerations, affinity, priorityClassName } = run.worker ?? {};
  return {
    restartPolicy: "Never",
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    // This is time for one page and its block; a worker stops at the next end of a line.
    terminationGracePeriodSeconds: 30,
    ...(run.serviceAccountName ? { serviceAccountName: run.serviceAccountName } : {}),
    ...(settings.imagePullSecrets?.length
      ? { imagePullSecrets: settings.imagePullSecrets.map((name) => ({ name })) }
      : {}),
    ...(nodeSelector ? { nodeSelector } : {}),
    ...(tolerations ? { tolerations } : {}),
    ...(affinity ? { affinity } : {}),
    ...(priorityClassName ? { priorityClassName } : {}),
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
        image: run.image ?? settings.image,
        ...(settings.imagePullPolicy ? { imagePullPolicy: settings.imagePullPolicy } : {}),
        args: ["worker", spec.command],
        env: [
          { name: "POD_IP", valueFrom: { fieldRef: { fieldPath: "status.podIP" } } },
          { name: "FHIR_EXPORT_POD_UID", valueFrom: { fieldRef: { fieldPath: "metadata.uid" } } },
          { name: "NODE_OPTIONS", value: workerNodeOptions },
          { name: "FHIR_EXPORT_TASK", value: `${taskFolder}/task.json` },
          { name: "FHIR_EXPORT_UID", value: object.metadata.uid ?? "" },
          { name: "FHIR_EXPORT_TERMINATION", value: "/dev/termination-log" },
          { name: "FHIR_EXPORT_PROGRESS", value: `$(POD_IP):${progressPort}` },
        ],
        ports: [{ name: "progress", containerPort: progressPort }],
        resources: {
          requests: { cpu: "250m", memory: "256Mi", ...resources?.requests },
          limits: { memory: "512Mi", ...resources?.limits },
        },
        // With FallbackToLogsOnError the log would get into the pod's status.
        terminationMessagePath: "/dev/termination-log",
        terminationMessagePolicy: "File",
        securityContext: {
          allowPrivilegeEscalation: false,
          readOnlyRootFilesystem: true,
          capabilities: { drop: ["ALL"] },
        },
        volumeMounts: [
          { name: "task", mountPath: taskFolder, readOnly: true },
          { name: "tmp", mountPath: "/tmp" },
          ...(run.claimName ? [{ name: "target", mountPath: settings.volumeRoot }] : []),
        ],
      },
    ],
    volumes: [
      { name: "task", projected: { defaultMode: 0o440, sources: projectedSources(object, run) } },
      { name: "tmp", emptyDir: { sizeLimit: "64Mi" } },
      ...(run.claimName ? [{ name: "target", persistentVolumeClaim: { claimName: run.claimName } }] : []),
    ],
  };
}

/** The sources of the projected volume. Only the keys that are needed are mounted, under source/ and target/. */
function projectedSources(object: FhirExport, run: FhirExportRun) {
  const secret = (name: string, items: { key: string; path: string }[]) => ({ secret: { name, items } });
  const files = (folder: string, names: string[]) => names.map((key) => ({ key, path: `${folder}/${key}` }));
  const { sourceAuth = "", sourceSecret, sourceCA, sourceCertificate, targetAuth = "", targetSecret } = run;
  const ca = files("source", ["ca.crt"]);
  return [
    secret(taskName(object.metadata, run.attempt), [{ key: "task.json", path: "task.json" }]),
    ...(sourceSecret ? [secret(sourceSecret, files("source", sourceFiles[sourceAuth] ?? []))] : []),
    ...(sourceCA
      ? [sourceCA.kind === "Secret" ? secret(sourceCA.name, ca) : { configMap: { name: sourceCA.name, items: ca } }]
      : []),
    ...(sourceCertificate ? [secret(sourceCertificate, files("source", ["tls.crt", "tls.key"]))] : []),
    ...(run.sourceHeaders ?? []).map(({ index, name, key }) => secret(name, [{ key, path: `source/header-${index}` }])),
    ...(run.sourceProxy
      ? [
          secret(
            run.sourceProxy,
            ["username", "password"].map((key) => ({ key, path: `source/proxy-${key}` })),
          ),
        ]
      : []),
    ...(targetSecret ? [secret(targetSecret, files("target", targetFiles[targetAuth] ?? []))] : []),
  ];
}
