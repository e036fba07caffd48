import { transient } from "../failure.ts";
import { isStatus } from "./azure-errors.ts";
import type { AzureFolder } from "./azure-folder.ts";
import type { StagedBlock, Upload } from "./store.ts";

/** All blocks of a blob are of one upload, whoever has staged them. */
export const azureKey = "blocks";

/** Writes one block blob. A block that is staged is invisible until a commit lists it; Azure keeps it for a week. */
export function azureUpload(folder: AzureFolder, path: string, contentType: string): Upload {
  return {
    key: azureKey,
    async stage(number, nonce, bytes) {
      // Azure wants ids of equal length.
      const id = `${nonce}-${String(number).padStart(5, "0")}`;
      await folder.call(() => stageBlock(folder, path, id, bytes));
      return id;
    },
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
): Promise<"committed" | "gone"> {
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
      return committed.join() === blocks.map(([id, bytes]) => `${azureID(id)} ${bytes}`).join() ? "committed" : "gone";
    if (!(await holdsBlocks(folder, path, blocks))) return "gone";
    throw transient("TargetUnreachable", `${path} could not be committed; it is tried again`, error);
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
