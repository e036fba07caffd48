// Made from crds/exporttargets.yaml by test/tools/generate.ts: edit that.
import type {Condition, ObjectMeta} from "./meta.ts";

/**
 * An ExportTarget is a place where exports are written, and how to sign in there.
 */
export interface ExportTarget {
  /**
   * The version of this API: fhirexport.dev/v1alpha1.
   */
  apiVersion?: "fhirexport.dev/v1alpha1";
  /**
   * ExportTarget.
   */
  kind?: "ExportTarget";
  metadata: ObjectMeta;
  spec: ExportTargetSpec;
  status?: ExportTargetStatus;
}
/**
 * The place. Exports that run keep what they were started with.
 */
export interface ExportTargetSpec {
  /**
   * An Azure storage account (Blob storage, also ADLS Gen2).
   */
  azureBlob?: {
    /**
     * Blob endpoint of the account. Example: https://account.blob.core.windows.net.
     */
    accountURL: string;
    /**
     * Container for exports that name none; without it each gets a new container export-{time}-{id}. Example: fhir.
     */
    container?: string;
    /**
     * Folder within the container. Example: hospital/exports.
     */
    prefix?: string;
    /**
     * Containers that exports may name, * stands for any characters. By default the target's own container and export-*.
     *
     * @maxItems 32
     */
    allowedContainers?: string[];
    /**
     * How to sign in; exactly one way. Credentials are in Secrets of the same namespace, which only worker pods read.
     */
    auth: {
      /**
       * Microsoft Entra workload identity; no secret at all. Needs the role Storage Blob Data Contributor.
       */
      workloadIdentity?: {
        /**
         * ServiceAccount of the worker pods, annotated for workload identity.
         */
        serviceAccountName: string;
      };
      /**
       * Secret with the key sas-token, a shared access signature for the account or container.
       */
      sasRef?: {
        /**
         * Name of the Secret.
         */
        name: string;
      };
      /**
       * Secret with the key connection-string.
       */
      connectionStringRef?: {
        /**
         * Name of the Secret.
         */
        name: string;
      };
    };
    /**
     * Size of the blocks that files are written in, from 64Ki to 256Mi. Example: 8Mi.
     */
    blockSize?: string;
  };
  /**
   * A PersistentVolumeClaim of the same namespace. ReadWriteMany, unless exports have parallelism 1.
   */
  volume?: {
    /**
     * Name of the PersistentVolumeClaim.
     */
    claimName: string;
    /**
     * Folder on the volume, its root by default. Example: fhir/exports.
     */
    path?: string;
    /**
     * Folders that exports may name with container, * stands for any characters. By default export-*.
     *
     * @maxItems 32
     */
    allowedContainers?: string[];
  };
}
/**
 * What the operator has seen. Written by the operator only.
 */
export interface ExportTargetStatus {
  /**
   * The generation of the spec that this status is about.
   */
  observedGeneration?: number;
  /**
   * Ready says whether exports can use it.
   *
   * @maxItems 16
   */
  conditions?: Condition[];
}
