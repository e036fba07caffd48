import { access } from "node:fs/promises";
import {
  type GetTokenOptions,
  WorkloadIdentityCredential,
  type WorkloadIdentityCredentialOptions,
} from "@azure/identity";
import { terminal, transient, waiting } from "./failure.ts";
import type { Token } from "./fhir/auth/holder.ts";

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

/** An access token of Microsoft Entra for the pod's own ServiceAccount. The library keeps tokens, also such as were revoked, so each call makes
 *  a new credential; who calls keeps the token.
 *  @throws terminal where pod, ServiceAccount or Entra must be set up otherwise; while Entra does not answer transient for the source, whose
 *  pages are tried again, and waiting for the target */
export async function identityToken(
  side: keyof typeof sides,
  scope: string | string[],
  options: GetTokenOptions,
  clientId?: string,
): Promise<Token> {
  const { field, refused, away } = sides[side];
  await checkPod(side, clientId);
  let last: Outcome = {};
  try {
    const asked = Date.now();
    const { token, expiresOnTimestamp } = await new WorkloadIdentityCredential({
      ...(clientId && { clientId }),
      // the authority comes from the webhook, and the public cloud knows nothing of private ones
      disableInstanceDiscovery: true,
      retryOptions: { maxRetries: side === "source" ? 1 : 3, maxRetryDelayInMs: 8000 },
      additionalPolicies: [{ position: "perRetry", policy: watch((outcome) => (last = outcome)) }],
    } satisfies WorkloadIdentityCredentialOptions).getToken(scope, options);
    return { value: token, lifeMs: expiresOnTimestamp - asked };
  } catch (error) {
    if (options.abortSignal?.aborted) throw error;
    // never the library's text or the error as cause: they quote Entra's answer, which may repeat what was sent
    const { status, code } = last;
    if (status === undefined && code === undefined)
      throw terminal(
        refused,
        `${field}: AZURE_TENANT_ID or AZURE_AUTHORITY_HOST, as the pod was given them, make no sense`,
      );
    if (status === undefined || status === 408 || status === 429 || status >= 500) {
      const text = `Microsoft Entra, where the token of ${field} comes from, does not answer (${status ?? code}); check AZURE_AUTHORITY_HOST and the network`;
      throw side === "source" ? transient(away, text) : waiting(away, text);
    }
    if (status < 400)
      throw terminal(
        refused,
        `${field}: AZURE_AUTHORITY_HOST is no authority of Microsoft Entra: it answers ${status} without a token`,
      );
    throw terminal(
      refused,
      `${field}: Microsoft Entra refuses the pod's ServiceAccount (${code ?? status}); check the federated credential (issuer, namespace and name of the ServiceAccount), the client id, the tenant and the scope`,
    );
  }
}

/** What the webhook must have given the pod. */
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

interface Outcome {
  status?: number;
  /** of Entra (AADSTS…) or of the network */
  code?: string;
}

type Policy = NonNullable<WorkloadIdentityCredentialOptions["additionalPolicies"]>[number]["policy"];

/** Sees what becomes of the library's requests: its errors say the same of a refusal, an outage and a wrong address. */
function watch(tell: (outcome: Outcome) => void): Policy {
  return {
    name: "watch",
    async sendRequest(request, next) {
      try {
        const answer = await next(request);
        const number = /"error_codes"\s*:\s*\[\s*(\d{1,9})/.exec(answer.bodyAsText ?? "")?.[1];
        tell({ status: answer.status, ...(number && { code: `AADSTS${number}` }) });
        return answer;
      } catch (error) {
        tell({ code: (error as NodeJS.ErrnoException).code ?? "no connection" });
        throw error;
      }
    },
  };
}
