import type { FhirExport } from "../api/fhirexport.gen.ts";
import { labels, taskName } from "../api/names.ts";
import type { Task } from "../contracts.ts";
import { ownerReference } from "./job.ts";

/** The Secret that carries the Task to the pods of one attempt. It is immutable. It is a Secret because patient ids and
 *  filters are data. */
export function makeTaskSecret(object: FhirExport, task: Task) {
  const { metadata } = object;
  return {
    apiVersion: "v1",
    kind: "Secret",
    metadata: {
      name: taskName(metadata, task.attempt),
      namespace: metadata.namespace ?? "default",
      labels: {
        [labels.uid]: metadata.uid ?? "",
        [labels.name]: metadata.name,
        [labels.attempt]: String(task.attempt),
        [labels.managedBy]: "fhir-export",
      },
      ownerReferences: [ownerReference(object)],
    },
    type: "fhirexport.dev/task",
    immutable: true,
    data: { "task.json": Buffer.from(JSON.stringify(task)).toString("base64") },
  };
}
