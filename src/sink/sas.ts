import {
  BlobSASPermissions,
  type BlobServiceClient,
  type BlockBlobClient,
  generateBlobSASQueryParameters,
  SASProtocol,
  type UserDelegationKey,
} from "@azure/storage-blob";
import type { AzureBlob } from "./azure-account.ts";
import { contentType } from "./layout.ts";

/** Clocks differ: a URL is valid from 5 minutes ago on. */
const skewMs = 300_000;
/** A user delegation key is used for an hour. It must live longer than the last URL that is signed with it, which lives
 *  at most an hour: hence an hour and 100 s more. */
const keyMs = 3_600_000;
const keyLeftMs = 3_700_000;

const keys = new Map<string, Promise<{ key: UserDelegationKey; until: number }>>();

/** A URL with which anyone can read this one blob for a while. It is signed with a user delegation key where the target
 *  signs in by workload identity, and with the account's key where the target has a connection string. Its signature
 *  must not get into any log.
 *  @param service taken anew at each use, as its credentials may be rotated
 *  @param seconds at most 3,600
 *  @returns undefined where the target has a SAS, with which nothing can be signed */
export async function signedURL(
  target: AzureBlob,
  service: () => BlobServiceClient,
  blob: BlockBlobClient,
  seconds: number,
): Promise<string | undefined> {
  if (target.auth === "sas") return undefined;
  const now = Date.now();
  const values = {
    permissions: BlobSASPermissions.parse("r"),
    startsOn: new Date(now - skewMs),
    expiresOn: new Date(now + seconds * 1000),
    // the emulator of tests and demo has no TLS
    protocol: blob.url.startsWith("https:") ? SASProtocol.Https : SASProtocol.HttpsAndHttp,
    contentType,
    ...(blob.name.endsWith(".gz") && { contentEncoding: "gzip" }),
  };
  if (target.auth === "connectionString") return blob.generateSasUrl(values);
  const key = await delegationKey(target.accountURL, service);
  const signature = generateBlobSASQueryParameters(
    { ...values, containerName: blob.containerName, blobName: blob.name },
    key,
    blob.accountName,
  );
  return `${blob.url}?${signature}`;
}

async function delegationKey(account: string, service: () => BlobServiceClient): Promise<UserDelegationKey> {
  const now = Date.now();
  const kept = await keys.get(account)?.catch(() => undefined);
  if (kept && kept.until > now) return kept.key;
  const asked = service()
    .getUserDelegationKey(new Date(now - skewMs), new Date(now + keyMs + keyLeftMs))
    .then((key) => ({ key, until: now + keyMs }));
  keys.set(account, asked);
  return (await asked).key;
}
