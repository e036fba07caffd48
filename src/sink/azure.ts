import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { AnonymousCredential, BlobServiceClient, RestError, type StoragePipelineOptions } from "@azure/storage-blob";
import type { Task } from "../contracts.ts";
import { FailureError, terminal, waiting } from "../failure.ts";
import type { BlockWriter, Store } from "./store.ts";

type AzureBlob = Extract<Task["target"], { azureBlob: unknown }>["azureBlob"];

// the SDK retries by itself: not wrapped again (reference: operators B.6)
const pipeline: StoragePipelineOptions = {
  retryOptions: { maxTries: 5, retryDelayInMs: 500, maxRetryDelayInMs: 8000, tryTimeoutInMs: 120_000 },
};

/** Block blobs of one export in one container, below `folder`. @param secrets folder that holds `target/{connection-string,sas-token}` */
export async function azureStore(target: AzureBlob, folder: string, secrets: string): Promise<Store> {
  const service = await connect(target, secrets);
  const container = service.getContainerClient(target.container);
  const prefix = folder === "" ? "" : `${folder.replace(/\/+$/, "")}/`;
  const blob = (path: string) => container.getBlockBlobClient(prefix + path);
  const guard = <T>(call: () => Promise<T>) => call().catch((error) => Promise.reject(storageFailure(error, target.container)));

  /** A conditional write that storage refuses may be our own, answered on a second try: the bytes tell. */
  const write = (path: string, bytes: Uint8Array, conditions: { ifNoneMatch: string } | { ifMatch: string }, type: string) =>
    guard(async () => {
      try {
        const { etag } = await blob(path).upload(Buffer.from(bytes), bytes.length, {
          conditions,
          blobHTTPHeaders: { blobContentType: type },
        });
        return etag;
      } catch (error) {
        if (!isStatus(error, 404, 409, 412) || isMissingContainer(error)) throw error;
        const there = await read(path);
        return there?.bytes.equals(bytes) ? there.etag : undefined;
      }
    });

  const read = (path: string) =>
    guard(async () => {
      try {
        const answer = await blob(path).download();
        const chunks: Buffer[] = [];
        for await (const chunk of answer.readableStreamBody!) chunks.push(chunk as Buffer);
        return { bytes: Buffer.concat(chunks), etag: answer.etag! };
      } catch (error) {
        if (isStatus(error, 404) && !isMissingContainer(error)) return undefined;
        throw error;
      }
    });

  return {
    prepare: () =>
      guard(async () => {
        if (!target.createContainer) return;
        try {
          await container.createIfNotExists();
        } catch (error) {
          // a SAS for the container alone may not create it, and need not
          if (!isStatus(error, 401, 403)) throw error;
        }
      }),
    read,
    create: (path, bytes, type = "application/json") => write(path, bytes, { ifNoneMatch: "*" }, type),
    replace: (path, bytes, etag) => write(path, bytes, { ifMatch: etag }, "application/json"),
    remove: (path) =>
      guard(async () => {
        if ((await blob(path).deleteIfExists({ deleteSnapshots: "include" })).succeeded) return;
        // a blob of uncommitted blocks only answers 404 to delete and could still be committed (DESIGN section 6)
        try {
          await blob(path).commitBlockList([], { conditions: { ifNoneMatch: "*" } });
        } catch (error) {
          if (!isStatus(error, 409, 412)) throw error;
        }
        await blob(path).deleteIfExists();
      }),
    async *list(below, { uncommitted = false } = {}) {
      try {
        for await (const item of container.listBlobsFlat({ prefix: prefix + below, includeUncommitedBlobs: uncommitted }))
          yield { path: item.name.slice(prefix.length), size: item.properties.contentLength ?? 0 };
      } catch (error) {
        if (isMissingContainer(error)) return;
        throw storageFailure(error, target.container);
      }
    },
    stream: (path, range) =>
      guard(async () => {
        try {
          const answer = await blob(path).download(range?.start ?? 0, range?.count);
          const size = /\/(\d+)$/.exec(answer.contentRange ?? "")?.[1];
          return {
            body: answer.readableStreamBody as Readable,
            size: size === undefined ? answer.contentLength! : Number(size),
            etag: answer.etag!,
          };
        } catch (error) {
          if (isStatus(error, 404)) return undefined;
          throw error;
        }
      }),
    blocks: (path, type, encoding): BlockWriter => {
      const client = blob(path);
      const encode = (id: string) => Buffer.from(id).toString("base64");
      const listed = async (kind: "committed" | "uncommitted") => {
        try {
          const list = await client.getBlockList(kind);
          return (kind === "committed" ? list.committedBlocks : list.uncommittedBlocks) ?? [];
        } catch (error) {
          if (isStatus(error, 404)) return [];
          throw error;
        }
      };
      return {
        stage: (id, bytes) =>
          guard(
            async () => void (await client.stageBlock(encode(id), Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length), bytes.length)),
          ),
        holds: (blocks) =>
          guard(async () => {
            const there = new Map((await listed("uncommitted")).map(({ name, size }) => [name, Number(size)]));
            return blocks.every(([id, bytes]) => there.get(encode(id)) === bytes);
          }),
        commit: (blocks) =>
          guard(async () => {
            try {
              await client.commitBlockList(
                blocks.map(([id]) => encode(id)),
                {
                  conditions: { ifNoneMatch: "*" },
                  blobHTTPHeaders: { blobContentType: type, ...(encoding && { blobContentEncoding: encoding }) },
                },
              );
              return "committed";
            } catch (error) {
              // InvalidBlockList (400): another writer's commit of this very list has used the blocks up
              if (!isStatus(error, 400, 409, 412)) throw error;
              const there = (await listed("committed")).map(({ name, size }) => `${name} ${size}`);
              if (there.length === 0) throw error;
              return there.join() === blocks.map(([id, bytes]) => `${encode(id)} ${bytes}`).join() ? "committed" : "other";
            }
          }),
      };
    },
    url: (path) => new URL(blob(path).url).origin + new URL(blob(path).url).pathname,
    close: async () => {},
  };
}

async function connect(target: AzureBlob, secrets: string): Promise<BlobServiceClient> {
  const secret = async (file: string) => {
    try {
      return (await readFile(join(secrets, "target", file), "utf8")).trim();
    } catch (cause) {
      throw terminal("TargetUnauthorized", `the Secret of the ExportTarget has no key "${file}"`, cause);
    }
  };
  if (target.auth === "connectionString") {
    const text = await secret("connection-string");
    try {
      return BlobServiceClient.fromConnectionString(text, pipeline);
    } catch {
      throw terminal(
        "TargetUnauthorized",
        'key "connection-string" in the Secret of the ExportTarget is not an Azure Storage connection string',
      );
    }
  }
  if (target.auth === "sas") {
    const token = (await secret("sas-token")).replace(/^\?/, "");
    return new BlobServiceClient(`${target.accountURL.replace(/\/+$/, "")}?${token}`, new AnonymousCredential(), pipeline);
  }
  throw terminal("TargetUnauthorized", "this version cannot use workloadIdentity of the ExportTarget; use connectionStringRef or sasRef");
}

const isStatus = (error: unknown, ...statuses: number[]) =>
  error instanceof RestError && error.statusCode !== undefined && statuses.includes(error.statusCode);
const codeOf = (error: unknown) =>
  error instanceof RestError ? ((error.details as { errorCode?: string } | undefined)?.errorCode ?? error.code) : undefined;
const isMissingContainer = (error: unknown) => codeOf(error) === "ContainerNotFound" || codeOf(error) === "ContainerBeingDeleted";

/** Azure's raw message holds headers and the signed string (microsoft/fhir-server #2919), so only its status and code are kept. */
function storageFailure(error: unknown, container: string): FailureError {
  if (error instanceof FailureError) return error;
  if (!(error instanceof RestError)) throw error;
  const [status, code] = [error.statusCode, codeOf(error)];
  const said = `${status ?? ""} ${code ?? ""}`.trim();
  if (code === "ContainerNotFound")
    return terminal(
      "InvalidContainer",
      `container "${container}" does not exist in the ExportTarget's account; create it, or allow the credentials to`,
      error,
    );
  if (code === "InvalidResourceName" || code === "OutOfRangeInput")
    return terminal("InvalidContainer", `"${container}" is not a container name that Azure takes`, error);
  if (status === 401 || status === 403)
    return terminal(
      "TargetUnauthorized",
      `storage refuses the ExportTarget's credentials (${said}); they must allow to read, write, list, create and delete blobs in container "${container}"`,
      error,
    );
  if (status === undefined || status === 408 || status === 429 || status >= 500 || code === "ContainerBeingDeleted")
    return waiting(
      "TargetUnreachable",
      `storage of the ExportTarget does not answer (${said || error.name}); check accountURL or the connection string, and the network`,
      error,
    );
  return terminal("TargetUnreachable", `storage of the ExportTarget answers ${said}`, error);
}
