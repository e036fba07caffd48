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

/** clocks differ: a URL is good from a little before now */
const skewMs = 300_000;
/** a user delegation key is asked for anew after so long; it lives longer than any URL that is signed with it */
const keyMs = 3_600_000;
const keyLeftMs = 3_700_000;

const keys = new Map<string, Promise<{ key: UserDelegationKey; until: number }>>();

/** A URL that reads this one blob for a while: signed with a user delegation key where the target signs in by workload identity, with the account's key where
 *  it has one. A target that has a SAS itself can sign nothing: undefined. The signature must get into no log.
 *  @param seconds at most 3,600 */
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
    // an emulator on this machine has no TLS
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
