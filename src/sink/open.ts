import type { Task } from "../contracts.ts";
import { contained } from "./contained.ts";
import type { Store } from "./store.ts";

/** Opens the store of an export. The Azure SDK is loaded only where it is used.
 *  @param secrets folder that holds `target/`, with the files of the ExportTarget's credentials */
export async function openStore(target: Task["target"], secrets: string): Promise<Store> {
  return contained(await openBare(target, secrets), target.folder);
}

async function openBare(target: Task["target"], secrets: string): Promise<Store> {
  if ("volume" in target) return (await import("./directory.ts")).directoryStore(target.volume.path, target.folder);
  return (await import("./azure.ts")).azureStore(target.azureBlob, target.folder, secrets);
}
