// Made from crds/exporttargets.yaml by test/tools/generate.ts: edit that.
import type {Condition, ObjectMeta} from "./meta.ts";

/**
 * An ExportTarget describes a place to write exports to, and how to sign in there.
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
 * The place to write to. Running exports keep the settings that they were started with.
 */
export interface ExportTargetSpec {
  /**
   * An Azure storage account (Blob Storage, also ADLS Gen2).
   */
  azureBlob?: {
    /**
     * Blob endpoint of the account. Example: https://account.blob.core.windows.net.
     */
    accountURL: string;
    /**
     * Container for exports that name none. Without it each such export gets a new container export-{time}-{id}. Example: fhir.
     */
    container?: string;
    /**
     * Folder within the container, in which each export gets a folder of its own. Example: hospital/exports.
     */
    prefix?: string;
    /**
     * Containers that exports may name in their field container. * stands for any characters. By default the target's own container and export-*.
     *
     * @maxItems 32
     */
    allowedContainers?: string[];
    /**
     * How to sign in; set exactly one way. Credentials are in Secrets of the same namespace, which worker pods and the HTTP service read as files.
     */
    auth: {
      /**
       * Microsoft Entra workload identity. It needs no secret, but the role Storage Blob Data Contributor.
       */
      workloadIdentity?: {
        /**
         * ServiceAccount of the worker pods. It is annotated for workload identity.
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
     * Size of the blocks in which files are written, from 64Ki to 256Mi. Example: 8Mi.
     */
    blockSize?: string;
  };
  /**
   * A PersistentVolumeClaim of the same namespace. It must be ReadWriteMany, unless exports have parallelism 1.
   */
  volume?: {
    /**
     * Name of the PersistentVolumeClaim.
     */
    claimName: string;
    /**
     * Folder on the volume. By default the root of the volume. Example: fhir/exports.
     */
    path?: string;
    /**
     * Folders that exports may name in their field container. * stands for any characters. By default export-*.
     *
     * @maxItems 32
     */
    allowedContainers?: string[];
  };
}
/**
 * What the operator has observed. Only the operator writes it.
 */
export interface ExportTargetStatus {
  /**
   * The generation of the spec that this status describes.
   */
  observedGeneration?: number;
  /**
   * The condition Ready says whether exports can use this target.
   *
   * @maxItems 16
   */
  conditions?: Condition[];
}
