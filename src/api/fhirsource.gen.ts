// Made from crds/fhirsources.yaml by test/tools/generate.ts: edit that.
import type {Condition, ObjectMeta} from "./meta.ts";

/**
 * A FhirSource is a FHIR R4 server to export from, how to sign in there, and how much load it may get.
 */
export interface FhirSource {
  /**
   * The version of this API: fhirexport.dev/v1alpha1.
   */
  apiVersion?: "fhirexport.dev/v1alpha1";
  /**
   * FhirSource.
   */
  kind?: "FhirSource";
  metadata: ObjectMeta;
  spec: FhirSourceSpec;
  status?: FhirSourceStatus;
}
/**
 * The server. Exports that run keep what they were started with.
 */
export interface FhirSourceSpec {
  /**
   * FHIR base URL, without user, query and fragment. Example: https://fhir.example.org/r4.
   */
  baseURL: string;
  /**
   * How to sign in; exactly one way. Credentials are in Secrets of the same namespace, which only worker pods read.
   */
  auth?: {
    /**
     * No sign-in.
     */
    none?: {};
    /**
     * HTTP basic authentication.
     */
    basic?: {
      /**
       * Secret with the keys username and password.
       */
      secretRef: {
        /**
         * Name of the Secret.
         */
        name: string;
      };
    };
    /**
     * A fixed bearer token; read again at each use, so it can be rotated.
     */
    bearer?: {
      /**
       * Secret with the key token.
       */
      secretRef: {
        /**
         * Name of the Secret.
         */
        name: string;
      };
    };
    /**
     * OAuth 2 client credentials with a client secret.
     */
    oauth2?: {
      /**
       * Token endpoint. Example: https://login.example.org/oauth2/token.
       */
      tokenURL: string;
      /**
       * Client id.
       */
      clientID: string;
      /**
       * Scopes to ask for, separated by spaces. Example: system/*.rs.
       */
      scope?: string;
      /**
       * Secret with the key client-secret.
       */
      secretRef: {
        /**
         * Name of the Secret.
         */
        name: string;
      };
    };
    /**
     * SMART Backend Services: client credentials with a signed assertion.
     */
    smart?: {
      /**
       * Token endpoint; without it, the one that the server's .well-known/smart-configuration names.
       */
      tokenURL?: string;
      /**
       * Client id as registered with the public key.
       */
      clientID: string;
      /**
       * Scopes to ask for, separated by spaces. Example: system/*.rs.
       */
      scope?: string;
      /**
       * Secret with the key private-key.jwk, a private JSON Web Key with kid and alg (RS384 or ES384).
       */
      secretRef: {
        /**
         * Name of the Secret.
         */
        name: string;
      };
    };
    /**
     * Microsoft Entra workload identity; no secret at all.
     */
    workloadIdentity?: {
      /**
       * ServiceAccount of the worker pods, annotated for workload identity.
       */
      serviceAccountName: string;
      /**
       * Client id, when it is not the one of the ServiceAccount's annotation.
       */
      clientID?: string;
      /**
       * Scope to ask for. Example: https://hospital.fhir.azurehealthcareapis.com/.default.
       */
      scope: string;
    };
  };
  /**
   * Whom to trust, and how to be known.
   */
  tls?: {
    /**
     * Certificate authorities to trust instead of the well-known ones, under the key ca.crt (PEM). A token endpoint may have a certificate of either.
     */
    caRef?: {
      /**
       * ConfigMap or Secret.
       */
      kind?: "ConfigMap" | "Secret";
      /**
       * Its name.
       */
      name: string;
    };
    /**
     * Client certificate for servers that ask for one (mutual TLS), also at the token endpoint: a Secret with the keys tls.crt and tls.key (PEM, without passphrase), such as one of type kubernetes.io/tls.
     */
    clientCertificateRef?: {
      /**
       * Name of the Secret.
       */
      name: string;
    };
  };
  /**
   * How result pages are asked for.
   */
  paging?: {
    /**
     * Resources per page to ask for; the server may give fewer.
     */
    count?: number;
    /**
     * Auto asks for an order where the server keeps it; None never does.
     */
    sort?: "Auto" | "None";
  };
  /**
   * How many seconds a written resource may need until searches find it. An export then shows the moment so many seconds before its start. 0 for servers whose searches see every write at once.
   */
  settleSeconds?: number;
  /**
   * How much load all exports together may put on the server.
   */
  limits?: {
    /**
     * Exports that may run at once; further ones wait in a queue.
     */
    maxConcurrentExports?: number;
    /**
     * Requests at once, over all exports.
     */
    concurrentRequests?: number;
    /**
     * Requests per second, over all exports. No limit by default.
     */
    requestsPerSecond?: number;
  };
  /**
   * Auto uses _history where the server has it, to show resources that change during the export as they were at its moment; None never asks for history.
   */
  history?: "Auto" | "None";
}
/**
 * What the operator has seen. Written by the operator only.
 */
export interface FhirSourceStatus {
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
