/** Prints the SHA-256 of each blob of a container as JSON: `node test/e2e/blobs.ts CONNECTION-STRING CONTAINER`.
 *  Without such a container it prints an empty object. */
import { createHash } from "node:crypto";
import { BlobServiceClient } from "@azure/storage-blob";

const [connectionString = "", name = ""] = process.argv.slice(2);
const container = BlobServiceClient.fromConnectionString(connectionString).getContainerClient(name);
const found: Record<string, string> = {};
if (await container.exists())
  for await (const { name: path } of container.listBlobsFlat({ includeUncommitedBlobs: true }))
    found[path] = createHash("sha256")
      .update(
        await container
          .getBlobClient(path)
          .downloadToBuffer()
          .catch(() => "uncommitted"),
      )
      .digest("hex");
console.log(JSON.stringify(found));
