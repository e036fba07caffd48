import type { Readable } from "node:stream";
import { RestError } from "@azure/storage-blob";
import { FailureError, terminal, transient, waiting } from "../failure.ts";
import { withoutTrailingSlash } from "../url.ts";
import { type AzureBlob, openAccount } from "./azure-account.ts";
import { workPrefix } from "./layout.ts";
import { signedURL } from "./sas.ts";
import type { BlockWriter, Store } from "./store.ts";

/** Block blobs of one export in one container, below `folder`. @param secrets folder that holds `target/{connection-string,sas-token}` */
export async function azureStore(target: AzureBlob, folder: string, secrets: string): Promise<Store> {
  const account = await openAccount(target, secrets);
  const prefix = folder === "" ? "" : `${withoutTrailingSlash(folder)}/`;
  const blob = (path: string) => account.container.getBlockBlobClient(prefix + path);
  const guard = async <T>(call: () => Promise<T>): Promise<T> => {
    const { signedBy } = account;
    try {
      return await call().catch(async (error) => {
        // the Secret may have been rotated since it was read
        if (isStatus(error, 401, 403) && (await account.renew(signedBy))) return call();
        throw error;
      });
    } catch (error) {
      throw storageFailure(error, target.container);
    }
  };

  /** A conditional write that storage refuses may be our own, answered on a second try: the bytes tell. Where nothing is there that would have to be
   *  refused for, it is tried again. */
  const write = (
    path: string,
    bytes: Uint8Array,
    conditions: { ifNoneMatch: string } | { ifMatch: string },
    type: string,
  ) =>
    guard(async () => {
      for (let tries = 1; ; tries++)
        try {
          const { etag } = await blob(path).upload(Buffer.from(bytes), bytes.length, {
            conditions,
            blobHTTPHeaders: { blobContentType: type },
          });
          return etag;
        } catch (error) {
          if (!isStatus(error, 404, 409, 412) || isMissingContainer(error)) throw error;
          const there = await read(path);
          if (there?.bytes.equals(bytes)) return there.etag;
          const isRefused = "ifMatch" in conditions ? there?.etag !== conditions.ifMatch : there !== undefined;
          if (isRefused) return undefined;
          if (tries === 3) throw error;
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

  /** A blob of uncommitted blocks only answers 404 to delete and could still be committed (DESIGN section 6); the emulator deletes it, but not the blocks. */
  const discard = async (path: string): Promise<void> => {
    try {
      const { etag } = await blob(path).commitBlockList([], { conditions: { ifNoneMatch: "*" } });
      await blob(path).deleteIfExists({ conditions: { ifMatch: etag! } });
    } catch (error) {
      if (!isStatus(error, 409, 412)) throw error;
    }
  };

  return {
    async prepare() {
      if (!target.createContainer) return;
      try {
        await guard(() => account.container.createIfNotExists());
      } catch (error) {
        // a SAS for the container alone may not create it, and need not
        if (!isStatus((error as FailureError).cause, 401, 403)) throw error;
      }
    },
    read,
    create: (path, bytes, type = "application/json") => write(path, bytes, { ifNoneMatch: "*" }, type),
    replace: (path, bytes, etag) => write(path, bytes, { ifMatch: etag }, "application/json"),
    remove: (path, etag) =>
      guard(async () => {
        if (etag === undefined) {
          // working files are written whole
          if (!path.startsWith(workPrefix)) await discard(path);
          await blob(path).deleteIfExists({ deleteSnapshots: "include" });
          return;
        }
        try {
          await blob(path).deleteIfExists({ deleteSnapshots: "include", conditions: { ifMatch: etag } });
        } catch (error) {
          if (!isStatus(error, 412)) throw error;
        }
      }),
    discard: (path) => guard(() => discard(path)),
    async *list(below, { uncommitted = false } = {}) {
      const options = { prefix: prefix + below, includeUncommitedBlobs: uncommitted };
      let continuationToken: string | undefined;
      do {
        const page = await guard(async () => {
          try {
            return (
              await account.container
                .listBlobsFlat(options)
                .byPage({ ...(continuationToken && { continuationToken }) })
                .next()
            ).value;
          } catch (error) {
            if (isMissingContainer(error)) return undefined;
            throw error;
          }
        });
        for (const item of page?.segment.blobItems ?? [])
          yield {
            path: item.name.slice(prefix.length),
            size: item.properties.contentLength ?? 0,
            etag: `"${unquoted(item.properties.etag)}"`,
          };
        continuationToken = page?.continuationToken;
      } while (continuationToken);
    },
    stream: (path, range) =>
      guard(async () => {
        try {
          // a connection that breaks is taken up where it broke, of the same blob only; for a slow reader that may be each 2 minutes
          const answer = await blob(path).download(range?.start ?? 0, range?.count, { maxRetryRequests: 1000 });
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
    blocks: (path, type): BlockWriter => {
      const encode = (id: string) => Buffer.from(id).toString("base64");
      const listed = async (kind: "committed" | "uncommitted") => {
        try {
          const list = await blob(path).getBlockList(kind);
          return (kind === "committed" ? list.committedBlocks : list.uncommittedBlocks) ?? [];
        } catch (error) {
          if (isStatus(error, 404)) return [];
          throw error;
        }
      };
      return {
        stage: (id, bytes) =>
          guard(
            async () =>
              void (await blob(path).stageBlock(
                encode(id),
                Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length),
                bytes.length,
              )),
          ),
        holds: (blocks) =>
          guard(async () => {
            const there = new Map((await listed("uncommitted")).map(({ name, size }) => [name, Number(size)]));
            return blocks.every(([id, bytes]) => there.get(encode(id)) === bytes);
          }),
        commit: (blocks) =>
          guard(async () => {
            try {
              await blob(path).commitBlockList(
                blocks.map(([id]) => encode(id)),
                {
                  conditions: { ifNoneMatch: "*" },
                  blobHTTPHeaders: { blobContentType: type },
                },
              );
              return "committed";
            } catch (error) {
              // InvalidBlockList (400): another writer's commit of this very list has used the blocks up
              if (!isStatus(error, 400, 409, 412)) throw error;
              const there = (await listed("committed")).map(({ name, size }) => `${name} ${size}`);
              if (there.length === 0)
                throw storageCodeOf(error) === "InvalidBlockList"
                  ? transient(
                      "TargetUnreachable",
                      `the blocks of ${path} are gone; the shard is looked at again`,
                      error,
                    )
                  : error;
              return there.join() === blocks.map(([id, bytes]) => `${encode(id)} ${bytes}`).join()
                ? "committed"
                : "other";
            }
          }),
      };
    },
    url: (path) => new URL(blob(path).url).origin + new URL(blob(path).url).pathname,
    signedURL: (path, seconds) => guard(() => signedURL(target, () => account.service, blob(path), seconds)),
    close: async () => {},
  };
}

// lists have etags without the quotes that a condition wants
const unquoted = (etag: string) => etag.replaceAll('"', "");
const isStatus = (error: unknown, ...statuses: number[]) =>
  error instanceof RestError && error.statusCode !== undefined && statuses.includes(error.statusCode);
const storageCodeOf = (error: unknown) =>
  error instanceof RestError
    ? ((error.details as { errorCode?: string } | undefined)?.errorCode ?? error.code)
    : undefined;
const isMissingContainer = (error: unknown) =>
  storageCodeOf(error) === "ContainerNotFound" || storageCodeOf(error) === "ContainerBeingDeleted";

/** Azure's raw message holds headers and the signed string (microsoft/fhir-server #2919), so only its status and code are kept. */
function storageFailure(error: unknown, container: string): FailureError {
  if (error instanceof FailureError) return error;
  if (!(error instanceof RestError)) throw error;
  const [status, code] = [error.statusCode, storageCodeOf(error)];
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
  if (status === undefined || status >= 500 || code === "ContainerBeingDeleted")
    return waiting(
      "TargetUnreachable",
      `storage of the ExportTarget does not answer (${said || error.name}); check accountURL or the connection string, and the network`,
      error,
    );
  if (code?.startsWith("BlobImmutable"))
    return terminal(
      "TargetUnauthorized",
      `container "${container}" of the ExportTarget has an immutability policy or a legal hold (${said}); files there can be deleted when it ends`,
      error,
    );
  // a lease, a soft delete that is under way
  if (status === 409 || status === 412)
    return waiting("TargetUnreachable", `storage of the ExportTarget refuses (${said})`, error);
  return terminal("TargetUnreachable", `storage of the ExportTarget answers ${said}`, error);
}
