import type { Command } from "../contracts.ts";
import type { ExportTarget } from "./exporttarget.gen.ts";
import type { FhirExport } from "./fhirexport.gen.ts";
import type { ObjectMeta } from "./meta.ts";

export const group = "fhirexport.dev";
export const apiVersion = "fhirexport.dev/v1alpha1";

/** Labels of every Job, pod and Secret of an export. Code finds them by the uid; the name is for people. It fits, since
 *  a label and the name of an export both have at most 63 characters. */
export const labels = {
  uid: `${group}/export-uid`,
  name: `${group}/export`,
  command: `${group}/command`,
  attempt: `${group}/attempt`,
  managedBy: "app.kubernetes.io/managed-by",
} as const;

export const annotations = {
  /** `Complete`, `Cancelled` or `Failed/{attempt}`: how it ended. It is written before the status, and backups keep
   *  it. */
  outcome: `${group}/outcome`,
  /** set by the HTTP service: the client wants the export's state in X-Export-Status (Prefer:
   *  separate-export-status) */
  separateStatus: `${group}/separate-export-status`,
  /** set by the HTTP service: the digest of a kick-off request that had an Idempotency-Key */
  request: `${group}/request-digest`,
} as const;

/** The finalizer that holds a FhirExport with `deletionPolicy: Delete` until its files are deleted. */
export const finalizer = `${group}/output`;

/** The first eight hex digits of a uid. */
export const shortUID = (uid: string) => uid.replaceAll("-", "").slice(0, 8).toLowerCase();

const stem = (metadata: ObjectMeta) => `${metadata.name.slice(0, 30)}-${shortUID(metadata.uid ?? "")}`;

/** The name of the Job (or process) that runs a command of one attempt. Since it is always the same, no second one can
 *  be made. */
export const runName = (metadata: ObjectMeta, command: Command, attempt: number) =>
  `${stem(metadata)}-${command}-${attempt}`;

/** The name of the Secret that holds the Task of one attempt. */
export const taskName = (metadata: ObjectMeta, attempt: number) => `${stem(metadata)}-task-${attempt}`;

export const runLabels = (metadata: ObjectMeta, command: Command, attempt: number): Record<string, string> => ({
  [labels.uid]: metadata.uid ?? "",
  [labels.name]: metadata.name,
  [labels.command]: command,
  [labels.attempt]: String(attempt),
  [labels.managedBy]: "fhir-export",
});

/** Azure's rule for the name of a container that can be created: 3 to 63 lower-case letters, digits and single hyphens,
 *  with a letter or digit at both ends. */
export const isContainerName = (name: string) =>
  name.length >= 3 && name.length <= 63 && /^[a-z0-9](-?[a-z0-9])*$/.test(name);

/** Whether `name` matches one of `patterns`, in which `*` stands for any characters. */
export function matchesContainer(name: string, patterns: readonly string[]): boolean {
  return patterns.some((pattern) => {
    const source = pattern
      .split("*")
      .map((part) => part.replace(/[^a-z0-9-]/g, "\\$&"))
      .join(".*");
    return new RegExp(`^${source}$`).test(name);
  });
}

/** Patterns of the containers that an export may name: the target's `allowedContainers`, else its own container and
 *  `export-*`. */
export function allowedContainers(target: ExportTarget["spec"]): readonly string[] {
  const own = target.azureBlob?.container;
  return target.azureBlob?.allowedContainers ?? target.volume?.allowedContainers ?? [...(own ? [own] : []), "export-*"];
}

/** An instant as yyyyMMddTHHmmss, in UTC. */
const stamp = (instant: string) => new Date(instant).toISOString().replaceAll(/[-:]|\.\d+Z$/g, "");

/** Where an export writes: a folder named by its creation time, its name and its uid, so that two exports never share
 *  one. Without any named container its folder is in a new container. On a volume there is no container, and a named
 *  one is the first part of the folder. The names are a contract, see docs/internals/storage-protocol.md#layout.
 *  @param named spec.container of the export */
export function outputOf(
  metadata: ObjectMeta,
  named: string | undefined,
  target: ExportTarget["spec"],
): { container?: string; folder: string } {
  const time = stamp(metadata.creationTimestamp ?? "1970-01-01T00:00:00Z");
  const uid8 = shortUID(metadata.uid ?? "");
  const own = `${time}-${metadata.name}-${uid8}`;
  if (!target.azureBlob) return { folder: named ? `${named}/${own}` : own };
  const container = named ?? target.azureBlob.container;
  // Others may write to that container, too: what a purge removes must be below a folder that is the export's alone.
  if (!container) return { container: `export-${time.toLowerCase()}-${uid8}`, folder: own };
  const { prefix } = target.azureBlob;
  return { container, folder: prefix ? `${prefix}/${own}` : own };
}

/** `namespace/name`, by which caches and queues know an object. */
export const objectKey = (metadata: Pick<FhirExport["metadata"], "name" | "namespace">) =>
  `${metadata.namespace ?? ""}/${metadata.name}`;
