// Made from crds/fhirsources.yaml by test/tools/generate.ts: edit that.
import type {Condition, ObjectMeta} from "./meta.ts";

/**
 * A FhirSource describes a FHIR server (R4, R4B or R5) to export from: its address, how to sign in, and how much load it may get.
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
 * The server. Running exports keep the settings that they were started with.
 */
export interface FhirSourceSpec {
  /**
   * FHIR base URL, without user, query and fragment. Example: https://fhir.example.org/r4.
   */
  baseURL: string;
  /**
   * How to sign in; set exactly one way. Credentials are in Secrets of the same namespace, which only worker pods read.
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
     * A fixed bearer token. It is read again at each use, so it can be rotated.
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
       * Client id at the token endpoint.
       */
      clientID: string;
      /**
       * Scopes to request, separated by spaces. Example: system/*.rs.
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
       * Token endpoint. By default the one that the server's .well-known/smart-configuration names.
       */
      tokenURL?: string;
      /**
       * Client id under which the public key is registered at the server.
       */
      clientID: string;
      /**
       * Scopes to request, separated by spaces. Example: system/*.rs.
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
     * Microsoft Entra workload identity. It needs no secret.
     */
    workloadIdentity?: {
      /**
       * ServiceAccount of the worker pods. It is annotated for workload identity.
       */
      serviceAccountName: string;
      /**
       * Client id, if it is not the one in the ServiceAccount's annotation.
       */
      clientID?: string;
      /**
       * Scope to request. Example: https://hospital.fhir.azurehealthcareapis.com/.default.
       */
      scope: string;
    };
  };
  /**
   * Which certificate authorities to trust, and which client certificate to present.
   */
  tls?: {
    /**
     * Certificate authorities to trust instead of the well-known ones, under the key ca.crt (PEM). For a token endpoint the well-known ones are trusted, too.
     */
    caRef?: {
      /**
       * Kind of the object that holds ca.crt: ConfigMap or Secret.
       */
      kind?: "ConfigMap" | "Secret";
      /**
       * Name of the object.
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
   * Headers that are sent with each request to the FHIR server, for example the API key or the tenant that a gateway wants. They are not sent to a token endpoint.
   *
   * @maxItems 16
   */
  headers?: {
    /**
     * Name of the header. Example: X-API-Key.
     */
    name: string;
    /**
     * What is sent. Everybody who may read the FhirSource can read it; put a secret into a Secret. Example: tenant-7.
     */
    value?: string;
    /**
     * Key of a Secret that holds what is sent. It is read again at each use, so it can be rotated.
     */
    secretRef?: {
      /**
       * Name of the Secret.
       */
      name: string;
      /**
       * Key in the Secret. Example: api-key.
       */
      key: string;
    };
  }[];
  /**
   * HTTP proxy through which the FHIR server is reached, by the method CONNECT, so that the proxy sees nothing of what is sent over https. The token endpoint is reached through it, too. By default servers are reached without a proxy.
   */
  proxy?: {
    /**
     * URL of the proxy. Example: http://proxy.example.org:3128.
     */
    url: string;
    /**
     * Secret with the keys username and password for the proxy (HTTP basic authentication).
     */
    secretRef?: {
      /**
       * Name of the Secret.
       */
      name: string;
    };
  };
  /**
   * Auto takes next links that name the server by another address than baseURL, as servers behind a proxy give them, and asks for them at baseURL; nothing is ever sent elsewhere. Strict refuses such links, which ends the export.
   */
  links?: "Auto" | "Strict";
  /**
   * How result pages are asked for.
   */
  paging?: {
    /**
     * How many resources per page to ask for. The server may give fewer.
     */
    count?: number;
    /**
     * Auto asks for an order of the resources if the server keeps it, so that two exports write the same files. None never asks for an order.
     */
    sort?: "Auto" | "None";
  };
  /**
   * How many seconds it may take until searches find a resource that was just written. An export then shows the data as they were this many seconds before its start. 0 is right for servers whose searches see every write at once.
   */
  settleSeconds?: number;
  /**
   * How much load all exports together may put on the server.
   */
  limits?: {
    /**
     * How many exports may run at once. Further ones wait in a queue.
     */
    maxConcurrentExports?: number;
    /**
     * How many requests are made at once, over all exports.
     */
    concurrentRequests?: number;
    /**
     * How many requests are made per second, over all exports. There is no limit by default.
     */
    requestsPerSecond?: number;
  };
  /**
   * Auto uses _history if the server has it, so that resources that change during the export are exported as they were at its moment. None never asks for history; an export is then not exact if resources are changed or deleted while it runs, or if the server does not count exactly.
   */
  history?: "Auto" | "None";
}
/**
 * What the operator has observed. Only the operator writes it.
 */
export interface FhirSourceStatus {
  /**
   * The generation of the spec that this status describes.
   */
  observedGeneration?: number;
  /**
   * The condition Ready says whether exports can use this source.
   *
   * @maxItems 16
   */
  conditions?: Condition[];
}
