import { readFile } from "node:fs/promises";
import { join } from "node:path";
import {
  AnonymousCredential,
  BlobServiceClient,
  type ContainerClient,
  type StoragePipelineOptions,
} from "@azure/storage-blob";
import type { Task } from "../contracts.ts";
import { terminal } from "../failure.ts";
import { withoutTrailingSlash } from "../url.ts";
import { httpClient } from "./azure-http.ts";

export type AzureBlob = Extract<Task["target"], { azureBlob: unknown }>["azureBlob"];

/** Azure itself ends a request after this time, which the SDK sends along. A block of 8 MiB then needs 140 kB/s. */
export const azureRequestSeconds = 60;

// The SDK repeats failed requests by itself, so nothing here repeats them once more.
const pipeline: StoragePipelineOptions = {
  httpClient,
  retryOptions: {
    maxTries: 5,
    retryDelayInMs: 500,
    maxRetryDelayInMs: 8000,
    tryTimeoutInMs: azureRequestSeconds * 1000,
  },
};

/** The container of a target, signed in with the credential that the Secret holds. */
export interface Account {
  /** `renew` replaces it, so take it anew for each call. */
  readonly container: ContainerClient;
  readonly service: BlobServiceClient;
  /** The credential that the container is signed in with; it is only to be handed back to `renew`. */
  readonly signedBy: string | undefined;
  /** Reads the Secret once more, after storage refused a credential.
   *  @param signedBy that credential
   *  @returns whether the Secret holds another one */
  renew(signedBy: string | undefined): Promise<boolean>;
}

/** @param secrets folder that holds `target/{connection-string,sas-token}`
 *  @throws terminal TargetUnauthorized, naming the Secret key or field to mend */
export async function openAccount(target: AzureBlob, secrets: string): Promise<Account> {
  if (target.auth === "workloadIdentity") {
    const service = byIdentity(target);
    // the SDK renews these tokens by itself
    return {
      service,
      container: service.getContainerClient(target.container),
      signedBy: undefined,
      renew: async () => false,
    };
  }
  const key = target.auth === "sas" ? "sas-token" : "connection-string";
  const bySecret = target.auth === "sas" ? bySAS : byConnectionString;
  const read = async () => {
    const signedBy = await readSecret(secrets, key);
    const service = bySecret(target, signedBy);
    return { signedBy, service, container: service.getContainerClient(target.container) };
  };
  let current = await read();
  return {
    get container() {
      return current.container;
    },
    get service() {
      return current.service;
    },
    get signedBy() {
      return current.signedBy;
    },
    async renew(signedBy) {
      // a concurrent call may have read the Secret already
      if (current.signedBy === signedBy) current = await read();
      return current.signedBy !== signedBy;
    },
  };
}

async function readSecret(secrets: string, key: string): Promise<string> {
  try {
    return (await readFile(join(secrets, "target", key), "utf8")).trim();
  } catch (cause) {
    throw terminal("TargetUnauthorized", `the Secret of the ExportTarget has no key "${key}"`, cause);
  }
}

function byConnectionString(_: AzureBlob, text: string): BlobServiceClient {
  try {
    return BlobServiceClient.fromConnectionString(text, pipeline);
  } catch {
    throw terminal(
      "TargetUnauthorized",
      'key "connection-string" in the Secret of the ExportTarget is not an Azure Storage connection string',
    );
  }
}

const bySAS = ({ accountURL }: AzureBlob, token: string) =>
  new BlobServiceClient(
    `${withoutTrailingSlash(accountURL)}?${token.replace(/^\?/, "")}`,
    new AnonymousCredential(),
    pipeline,
  );

function byIdentity({ accountURL }: AzureBlob): BlobServiceClient {
  if (!/^https:/i.test(accountURL))
    throw terminal(
      "TargetUnauthorized",
      "spec.azureBlob.accountURL of the ExportTarget must be https where workloadIdentity is used",
    );
  return new BlobServiceClient(
    accountURL,
    {
      async getToken(scopes, options = {}) {
        // MSAL, which signs in, takes long to load, and most targets do not need it
        const { identityToken } = await import("../identity.ts");
        const { value, lifeMs } = await identityToken("target", scopes, options);
        return { token: value, expiresOnTimestamp: Date.now() + lifeMs };
      },
    },
    pipeline,
  );
}
