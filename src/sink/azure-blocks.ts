import { transient } from "../failure.ts";
import { isStatus, storageCodeOf } from "./azure-errors.ts";
import type { AzureFolder } from "./azure-folder.ts";
import type { BlockWriter, StagedBlock } from "./store.ts";

/** Writes one block blob. A block that is staged is invisible until a commit lists it; Azure keeps it for a week. */
export function azureBlocks(folder: AzureFolder, path: string, contentType: string): BlockWriter {
  return {
    stage: (id, bytes) => folder.call(() => stageBlock(folder, path, id, bytes)),
    holds: (blocks) => folder.call(() => holdsBlocks(folder, path, blocks)),
    commit: (blocks) => folder.call(() => commitBlocks(folder, path, contentType, blocks)),
  };
}

async function stageBlock(folder: AzureFolder, path: string, id: string, bytes: Uint8Array): Promise<void> {
  // a view, not a copy: the block is sent from where it lies
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  await folder.blob(path).stageBlock(azureID(id), view, bytes.length);
}

async function holdsBlocks(folder: AzureFolder, path: string, blocks: readonly StagedBlock[]): Promise<boolean> {
  const staged = new Map((await listBlocks(folder, path, "uncommitted")).map(({ name, size }) => [name, Number(size)]));
  return blocks.every(([id, bytes]) => staged.get(azureID(id)) === bytes);
}

async function commitBlocks(
  folder: AzureFolder,
  path: string,
  contentType: string,
  blocks: readonly StagedBlock[],
): Promise<"committed" | "other"> {
  try {
    const ids = blocks.map(([id]) => azureID(id));
    await folder.blob(path).commitBlockList(ids, {
      conditions: { ifNoneMatch: "*" },
      blobHTTPHeaders: { blobContentType: contentType },
    });
    return "committed";
  } catch (error) {
    // 409 and 412: something is committed there. 400 is InvalidBlockList: a commit of this very list, whose answer was
    // lost, has used the blocks up, or the blocks are gone.
    if (!isStatus(error, 400, 409, 412)) throw error;
    const committed = (await listBlocks(folder, path, "committed")).map(({ name, size }) => `${name} ${size}`);
    if (committed.length > 0)
      return committed.join() === blocks.map(([id, bytes]) => `${azureID(id)} ${bytes}`).join() ? "committed" : "other";
    if (storageCodeOf(error) !== "InvalidBlockList") throw error;
    throw transient("TargetUnreachable", `the blocks of ${path} are gone; the shard is checked once more`, error);
  }
}

async function listBlocks(folder: AzureFolder, path: string, kind: "committed" | "uncommitted") {
  try {
    const list = await folder.blob(path).getBlockList(kind);
    return (kind === "committed" ? list.committedBlocks : list.uncommittedBlocks) ?? [];
  } catch (error) {
    if (isStatus(error, 404)) return [];
    throw error;
  }
}

/** Azure wants block ids in base64. */
const azureID = (id: string) => Buffer.from(id).toString("base64");
