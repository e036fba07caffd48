import type { Readable } from "node:stream";
import type { FailureError } from "../failure.ts";
import { type AzureBlob, azureRequestSeconds, openAccount } from "./azure-account.ts";
import { azureKey, azureUpload } from "./azure-blocks.ts";
import { isMissingContainer, isStatus } from "./azure-errors.ts";
import { AzureFolder } from "./azure-folder.ts";
import { signedURL } from "./sas.ts";
import type { ListedObject, Store, StoredObject, StoredStream, Unfinished } from "./store.ts";

/** The block blobs of one export, in one container.
 *  @param folder below which the blobs are; "" is the container itself
 *  @param secrets folder on this machine that holds `target/{connection-string,sas-token}` */
export async function azureStore(target: AzureBlob, folder: string, secrets: string): Promise<Store> {
  const account = await openAccount(target, secrets);
  const at = new AzureFolder(target, folder, account);
  return {
    prepare: () => createContainer(at),
    read: (path) => at.call(() => readBlob(at, path)),
    create: (path, bytes, type = "application/json") =>
      at.call(() => writeBlob(at, path, { bytes, type, onlyIf: { ifNoneMatch: "*" } })),
    replace: (path, bytes, tag) =>
      at.call(() => writeBlob(at, path, { bytes, type: "application/json", onlyIf: { ifMatch: tag } })),
    remove: (path) => at.call(async () => void (await at.blob(path).deleteIfExists({ deleteSnapshots: "include" }))),
    size: (path) => at.call(() => sizeOfBlob(at, path)),
    list: (below) => listBlobs(at, below, false),
    unfinished: (below) => listUncommitted(at, below),
    abandon: (path) => at.call(() => discardBlocks(at, path)),
    stream: (path, range) => at.call(() => streamBlob(at, path, range)),
    upload: async (path, contentType) => azureUpload(at, path, contentType),
    url: (path) => new URL(at.blob(path).url).origin + new URL(at.blob(path).url).pathname,
    signedURL: (path, seconds) => at.call(() => signedURL(target, () => account.service, at.blob(path), seconds)),
    requestSeconds: azureRequestSeconds,
    close: async () => {},
  };
}

async function createContainer(at: AzureFolder): Promise<void> {
  if (!at.target.createContainer) return;
  try {
    await at.call(() => at.account.container.createIfNotExists());
  } catch (error) {
    // A SAS of one container may not create it, and need not: a container that is missing shows at the first write.
    if (!isStatus((error as FailureError).cause, 401, 403)) throw error;
  }
}

async function readBlob(at: AzureFolder, path: string): Promise<StoredObject | undefined> {
  try {
    const answer = await at.blob(path).download();
    const chunks: Buffer[] = [];
    for await (const chunk of answer.readableStreamBody!) chunks.push(chunk as Buffer);
    return { bytes: Buffer.concat(chunks), tag: answer.etag! };
  } catch (error) {
    if (isStatus(error, 404) && !isMissingContainer(error)) return undefined;
    throw error;
  }
}

async function sizeOfBlob(at: AzureFolder, path: string): Promise<number | undefined> {
  try {
    return (await at.blob(path).getProperties()).contentLength;
  } catch (error) {
    if (isStatus(error, 404) && !isMissingContainer(error)) return undefined;
    throw error;
  }
}

interface ConditionalWrite {
  bytes: Uint8Array;
  type: string;
  onlyIf: { ifNoneMatch: "*" } | { ifMatch: string };
}

/** Writes a blob under a condition. When storage refuses, the condition may have failed because of this very write: its
 *  first answer was lost, and the SDK sent it again. The bytes that are stored tell. Where the condition holds after
 *  all, the write is repeated.
 *  @returns the new tag; undefined when the condition does not hold */
async function writeBlob(
  at: AzureFolder,
  path: string,
  { bytes, type, onlyIf }: ConditionalWrite,
): Promise<string | undefined> {
  for (let tries = 1; ; tries++)
    try {
      const { etag } = await at.blob(path).upload(Buffer.from(bytes), bytes.length, {
        conditions: onlyIf,
        blobHTTPHeaders: { blobContentType: type },
      });
      return etag;
    } catch (error) {
      if (!isStatus(error, 404, 409, 412) || isMissingContainer(error)) throw error;
      const stored = await readBlob(at, path);
      if (stored?.bytes.equals(bytes)) return stored.tag;
      const holds = "ifMatch" in onlyIf ? stored?.tag === onlyIf.ifMatch : stored === undefined;
      if (!holds) return undefined;
      if (tries === 3) throw error;
    }
}

/** Removes uncommitted blocks: commits an empty list, and deletes the empty blob. A delete alone is not enough. Azure
 *  answers it with 404 where there are only uncommitted blocks, which could still be committed; the emulator deletes
 *  the blob but keeps its blocks. */
async function discardBlocks(at: AzureFolder, path: string): Promise<void> {
  try {
    const { etag } = await at.blob(path).commitBlockList([], { conditions: { ifNoneMatch: "*" } });
    await at.blob(path).deleteIfExists({ conditions: { ifMatch: etag! } });
  } catch (error) {
    if (!isStatus(error, 409, 412)) throw error;
  }
}

async function* listBlobs(at: AzureFolder, below: string, uncommitted: boolean): AsyncGenerator<ListedObject> {
  const options = { prefix: at.prefix + below, includeUncommitedBlobs: uncommitted };
  let continuationToken: string | undefined;
  do {
    const page = await at.call(() => listPage(at, options, continuationToken));
    for (const item of page?.segment.blobItems ?? [])
      yield {
        path: item.name.slice(at.prefix.length),
        size: item.properties.contentLength ?? 0,
      };
    continuationToken = page?.continuationToken;
  } while (continuationToken);
}

/** Blobs that have uncommitted blocks and no content. Azure does not mark them in a list, so they are those that a list
 *  without uncommitted blobs does not have. */
async function* listUncommitted(at: AzureFolder, below: string): AsyncGenerator<Unfinished> {
  const uncommitted = new Set<string>();
  for await (const { path, size } of listBlobs(at, below, true)) if (size === 0) uncommitted.add(path);
  if (uncommitted.size === 0) return;
  for await (const { path } of listBlobs(at, below, false)) uncommitted.delete(path);
  for (const path of uncommitted) yield { path, key: azureKey };
}

/** One page of a list; undefined when there is no container. */
async function listPage(
  at: AzureFolder,
  options: { prefix: string; includeUncommitedBlobs: boolean },
  continuationToken: string | undefined,
) {
  try {
    const pages = at.account.container
      .listBlobsFlat(options)
      .byPage({ ...(continuationToken && { continuationToken }) });
    return (await pages.next()).value;
  } catch (error) {
    // A container that vanishes within a list would make the list end early.
    if (isMissingContainer(error) && continuationToken === undefined) return undefined;
    throw error;
  }
}

async function streamBlob(
  at: AzureFolder,
  path: string,
  range: { start: number; count?: number } | undefined,
): Promise<StoredStream | undefined> {
  try {
    // The SDK continues after a broken connection where it broke, and only with the same version of the blob. Storage
    // ends the connection of a slow reader, perhaps every 2 minutes, so many such retries are allowed.
    const answer = await at.blob(path).download(range?.start ?? 0, range?.count, { maxRetryRequests: 1000 });
    const size = /\/(\d+)$/.exec(answer.contentRange ?? "")?.[1];
    return {
      body: answer.readableStreamBody as Readable,
      size: size === undefined ? answer.contentLength! : Number(size),
    };
  } catch (error) {
    if (isStatus(error, 404)) return undefined;
    throw error;
  }
}
