import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { openStore } from "../../src/sink/open.ts";

/** What the server answers to everything. */
let answer: { status: number; code: string; message: string; id?: boolean };
let folder: string;
const server = createServer((request, response) => {
  request.resume().on("end", () => {
    const { status, code, message, id = true } = answer;
    response.writeHead(status, {
      ...(code && { "x-ms-error-code": code }),
      ...(id && { "x-ms-request-id": "1" }),
      "content-type": code ? "application/xml" : "text/html",
    });
    response.end(
      code ? `<?xml version="1.0"?><Error><Code>${code}</Code><Message>${message}</Message></Error>` : message,
    );
  });
});
before(async () => {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  folder = await mkdtemp(join(tmpdir(), "fhir-export-"));
  const key = Buffer.alloc(64, 7).toString("base64");
  const { port } = server.address() as AddressInfo;
  await mkdir(join(folder, "target"));
  await writeFile(
    join(folder, "target/connection-string"),
    `DefaultEndpointsProtocol=http;AccountName=dev;AccountKey=${key};BlobEndpoint=http://127.0.0.1:${port}/dev;`,
  );
});
after(async () => {
  server.closeAllConnections();
  server.close();
  await rm(folder, { recursive: true });
});

const rows: [name: string, given: typeof answer, want: { class: string; reason: string; message: RegExp }][] = [
  [
    "an emulator that is too old",
    {
      status: 400,
      code: "InvalidHeaderValue",
      message:
        "The API version 2026-02-06 is not supported by Azurite. Please upgrade Azurite to latest version and retry.",
    },
    { class: "terminal", reason: "TargetUnreachable", message: /InvalidHeaderValue.*x-ms-version.*upgrade/ },
  ],
  [
    "a clock that is wrong",
    {
      status: 403,
      code: "AuthenticationFailed",
      message:
        "Server failed to authenticate the request. Request date header too old: 'Tue, 01 Dec 2026 10:00:00 GMT'.",
    },
    { class: "waiting", reason: "TargetUnauthorized", message: /date.*clock of this machine/ },
  ],
  [
    "a web page of something in between",
    { status: 403, code: "", message: "<html>blocked</html>", id: false },
    { class: "terminal", reason: "TargetUnauthorized", message: /something before the storage.*proxies/ },
  ],
  [
    "credentials that are wrong",
    { status: 403, code: "AuthenticationFailed", message: "Server failed to authenticate the request." },
    { class: "terminal", reason: "TargetUnauthorized", message: /refuses the ExportTarget's credentials/ },
  ],
  [
    "another header that is wrong",
    {
      status: 400,
      code: "InvalidHeaderValue",
      message: "The value for one of the HTTP headers is not in the correct format.",
    },
    { class: "terminal", reason: "TargetUnreachable", message: /answers 400 InvalidHeaderValue/ },
  ],
];

describe("what storage refuses is told with what to do:", () => {
  for (const [name, given, want] of rows)
    test(name, async () => {
      answer = given;
      const store = await openStore(
        {
          folder: "out/x",
          azureBlob: {
            accountURL: "http://127.0.0.1/dev",
            container: "c",
            createContainer: true,
            blockBytes: 1,
            auth: "connectionString",
          },
        },
        folder,
      );
      await assert.rejects(store.read("x"), want);
    });
});
