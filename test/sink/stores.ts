import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before } from "node:test";
import { gunzipSync, inflateRawSync } from "node:zlib";
import type { Task } from "../../src/contracts.ts";
import { contained } from "../../src/sink/contained.ts";
import { openStore } from "../../src/sink/open.ts";
import type { Store } from "../../src/sink/store.ts";
import { type Azurite, shareAzurite, startAzurite } from "../tools/azurite.ts";
import { MemoryBlobs, type Send } from "../worlds/blobs.ts";
import { MemoryFiles } from "../worlds/files.ts";

/** A place to write to, as a Task names it, with the folder that holds its credentials. */
export interface Place {
  target: Task["target"];
  secrets: string;
  open(): Promise<Store>;
}

/** Both kinds of storage, and the simulated ones of test/worlds, which must keep the same promises. */
export type StoreKind = "directory" | "azure" | "simulated directory" | "simulated Azure";

/** Registers the hooks of a test file that needs both kinds of storage; `place()` gives a fresh folder in each.
 *  @param options.apart the file stores thousands of objects: Azurite goes through all that it holds on each request,
 *  so the file gets one of its own */
export function storage({ apart = false } = {}): {
  kinds: readonly ["directory", "azure"];
  allKinds: readonly StoreKind[];
  place(kind: StoreKind): Promise<Place>;
  azurite(): Azurite;
} {
  let azurite: Azurite;
  let root: string;
  let number = 0;
  before(async () => {
    root = await mkdtemp(join(tmpdir(), "fhir-export-"));
    azurite = await (apart ? startAzurite() : shareAzurite());
  });
  after(async () => {
    await azurite?.close();
    await rm(root, { recursive: true, force: true });
  });
  return {
    kinds: ["directory", "azure"],
    allKinds: ["directory", "azure", "simulated directory", "simulated Azure"],
    azurite: () => azurite,
    async place(kind) {
      const name = `place-${process.pid}-${++number}`;
      const secrets = join(root, name);
      await mkdir(join(secrets, "target"), { recursive: true });
      await writeFile(join(secrets, "target", "connection-string"), azurite.connectionString);
      const target: Task["target"] = kind.endsWith("directory")
        ? { folder: "out/x", volume: { path: join(secrets, "volume") } }
        : {
            folder: "out/x",
            azureBlob: {
              accountURL: azurite.accountURL,
              container: name,
              createContainer: true,
              blockBytes: 4 << 20,
              auth: "connectionString",
            },
          };
      const open = kind.startsWith("simulated") ? simulated(kind) : () => openStore(target, secrets);
      return { target, secrets, open };
    },
  };
}

/** Opens simulated storage; each call gives another worker's view of the same. */
function simulated(kind: StoreKind): () => Promise<Store> {
  const storage = kind === "simulated Azure" ? new MemoryBlobs() : new MemoryFiles();
  const send: Send = async (effect) => {
    await new Promise<void>((resolve) => setImmediate(resolve));
    return effect();
  };
  return async () => contained(storage.open(send), "out/x");
}

/** All content of a committed object. */
export async function readAll(store: Store, path: string): Promise<Buffer | undefined> {
  const found = await store.stream(path);
  if (!found) return undefined;
  const chunks: Buffer[] = [];
  for await (const chunk of found.body) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

/** @param withUnfinished also what is no object yet */
export async function paths(store: Store, prefix = "", withUnfinished = false): Promise<string[]> {
  const found: string[] = [];
  for await (const { path } of store.list(prefix)) found.push(path);
  if (withUnfinished) for await (const { path } of store.unfinished(prefix)) found.push(path);
  return found.sort();
}

/** The content of a gzip file, as every client reads it, even one that stops after the first member. */
export function gunzipOnce(bytes: Buffer): Buffer {
  const content = gunzipSync(bytes);
  if (!inflateRawSync(bytes.subarray(10)).equals(content)) throw new Error("the gzip file has more than one member");
  return content;
}
