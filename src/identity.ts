import { access } from "node:fs/promises";
import {
  type GetTokenOptions,
  WorkloadIdentityCredential,
  type WorkloadIdentityCredentialOptions,
} from "@azure/identity";
import { terminal, transient, waiting } from "./failure.ts";
import type { AccessToken } from "./fhir/auth/credentials.ts";

const sides = {
  source: {
    field: "spec.auth.workloadIdentity of the FhirSource",
    refused: "SourceUnauthorized",
    away: "SourceUnreachable",
  },
  target: {
    field: "spec.azureBlob.auth.workloadIdentity of the ExportTarget",
    refused: "TargetUnauthorized",
    away: "TargetUnreachable",
  },
} as const;

/** Asks Microsoft Entra for an access token for the pod's own ServiceAccount. The library caches tokens, revoked ones
 *  too, so each call makes a new credential, and the caller keeps the token.
 *  @param side for which of the two the token is; it decides the field and the reasons that a failure names
 *  @throws terminal where the pod, its ServiceAccount or Entra must be set up differently. While Entra does not answer:
 *    transient for the source, whose requests are tried again, and waiting for the target */
export async function identityToken(
  side: keyof typeof sides,
  scope: string | string[],
  options: GetTokenOptions,
  clientId?: string,
): Promise<AccessToken> {
  const { field, refused, away } = sides[side];
  await checkPod(side, clientId);
  let last: EntraAnswer = {};
  try {
    const asked = Date.now();
    const { token, expiresOnTimestamp } = await new WorkloadIdentityCredential({
      ...(clientId && { clientId }),
      // The webhook names the authority. Discovery would ask the public cloud about it, which does not know private
      // authorities.
      disableInstanceDiscovery: true,
      retryOptions: { maxRetries: side === "source" ? 1 : 3, maxRetryDelayInMs: 8000 },
      additionalPolicies: [{ position: "perRetry", policy: watchAnswers((answer) => (last = answer)) }],
    } satisfies WorkloadIdentityCredentialOptions).getToken(scope, options);
    return { value: token, lifeMs: expiresOnTimestamp - asked };
  } catch (error) {
    if (options.abortSignal?.aborted) throw error;
    // Neither the library's text nor its error as the cause is used: they quote Entra's answer, which may repeat the
    // assertion that was sent.
    const { status, code } = last;
    if (status === undefined && code === undefined)
      throw terminal(
        refused,
        `${field}: AZURE_TENANT_ID or AZURE_AUTHORITY_HOST of the pod is not valid; check the annotations of its ServiceAccount and the settings of the workload identity webhook`,
      );
    if (status === undefined || status === 408 || status === 429 || status >= 500) {
      const text = `Microsoft Entra, where the token of ${field} comes from, does not answer (${status ?? code}); check AZURE_AUTHORITY_HOST of the pod and the network`;
      throw side === "source" ? transient(away, text) : waiting(away, text);
    }
    if (status < 400)
      throw terminal(
        refused,
        `${field}: AZURE_AUTHORITY_HOST is no authority of Microsoft Entra: it answers ${status} without a token; check the settings of the workload identity webhook`,
      );
    throw terminal(
      refused,
      `${field}: Microsoft Entra refuses the pod's ServiceAccount (${code ?? status}); check the federated credential (issuer, namespace and name of the ServiceAccount), the client id, the tenant and the scope`,
    );
  }
}

/** Checks that the workload identity webhook has given the pod its variables and its token file. @throws terminal,
 *  which lists what is missing */
async function checkPod(side: keyof typeof sides, clientId: string | undefined): Promise<void> {
  const { field, refused } = sides[side];
  const { AZURE_FEDERATED_TOKEN_FILE: file = "", ...env } = process.env;
  const missing = ["AZURE_TENANT_ID", ...(clientId ? [] : ["AZURE_CLIENT_ID"])].filter((name) => !env[name]);
  try {
    await access(file);
  } catch {
    missing.push(file ? "the file of AZURE_FEDERATED_TOKEN_FILE" : "AZURE_FEDERATED_TOKEN_FILE");
  }
  if (missing.length === 0) return;
  throw terminal(
    refused,
    `${field}: the pod was not given ${missing.join(", ")}; the cluster needs the workload identity webhook, the pod the label azure.workload.identity/use: "true", and the ServiceAccount of serviceAccountName the annotation azure.workload.identity/client-id`,
  );
}

/** How a request to Entra went. Both are absent where no request was sent. */
interface EntraAnswer {
  status?: number;
  /** Entra's error number (AADSTS…), or the error code of the network */
  code?: string;
}

type Policy = NonNullable<WorkloadIdentityCredentialOptions["additionalPolicies"]>[number]["policy"];

/** Reports how each request of the library went. The library throws the same error for a refusal, an outage and a wrong
 *  address. */
function watchAnswers(report: (answer: EntraAnswer) => void): Policy {
  return {
    name: "watch",
    async sendRequest(request, next) {
      try {
        const answer = await next(request);
        const number = /"error_codes"\s*:\s*\[\s*(\d{1,9})/.exec(answer.bodyAsText ?? "")?.[1];
        report({ status: answer.status, ...(number && { code: `AADSTS${number}` }) });
        return answer;
      } catch (error) {
        report({ code: (error as NodeJS.ErrnoException).code ?? "no connection" });
        throw error;
      }
    },
  };
}
