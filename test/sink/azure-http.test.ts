import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer as createHTTP, type RequestListener } from "node:http";
import { createServer as createHTTPS } from "node:https";
import type { AddressInfo } from "node:net";
import { after, before, describe, test } from "node:test";
import { getCACertificates, setDefaultCACertificates } from "node:tls";
import { httpClient } from "../../src/sink/azure-http.ts";
import { makeAuthority } from "../fhir/certificates.ts";

type Sent = Parameters<typeof httpClient.sendRequest>[0];
const authority = makeAuthority();
const trusted = getCACertificates();
before(() => setDefaultCACertificates([...trusted, authority.cert]));
after(() => setDefaultCACertificates(trusted));

/** Sends one block to a server of its own. */
async function served(
  scheme: string,
  answer: RequestListener,
  body: Uint8Array,
): ReturnType<typeof httpClient.sendRequest> {
  const server = scheme === "https" ? createHTTPS(authority.issue("127.0.0.1"), answer) : createHTTP(answer);
  await once(server.listen(0, "127.0.0.1"), "listening");
  try {
    const { port } = server.address() as AddressInfo;
    return await httpClient.sendRequest({
      url: `${scheme}://127.0.0.1:${port}/c/b?comp=block`,
      method: "PUT",
      headers: { toJson: () => ({ "Content-Length": String(body.length) }) },
      body,
      timeout: 10_000,
    } as unknown as Sent);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

const content = (length: number) =>
  Buffer.from({ length } as ArrayLike<number>).map((_, i) => (i * 31 + (i >> 8)) & 0xff);

for (const scheme of ["http", "https"])
  describe(`A block over ${scheme}`, () => {
    for (const length of [1, 262_144, 262_145, 3_000_007])
      test(`of ${length} bytes arrives unchanged, with its length`, async () => {
        const body = content(length);
        let got: Buffer | undefined;
        let headers: NodeJS.Dict<string | string[]> = {};
        const { status } = await served(
          scheme,
          async (request, response) => {
            ({ headers } = request);
            got = Buffer.concat(await request.toArray());
            response.writeHead(201).end();
          },
          body,
        );
        assert.equal(status, 201);
        assert.ok(got?.equals(body));
        assert.equal(headers["content-length"], String(length));
        assert.equal(headers["transfer-encoding"], undefined);
      });

    for (const [said, status] of [
      [503, 503],
      [429, 503],
      [403, 403],
    ] as const)
      test(`that is refused with ${said} before it was read comes back as ${status}`, async () => {
        const answer = await served(
          scheme,
          (_, response) => void response.writeHead(said, { "x-ms-error-code": "No" }).end(),
          content(3_000_007),
        );
        assert.equal(answer.status, status);
        assert.equal(answer.headers.toJson()["x-ms-error-code"], "No");
      });

    test("that breaks off fails with an error after which the SDK tries again", async () => {
      const broken = served(
        scheme,
        (request) => void request.once("data", () => request.socket.destroy()),
        content(3_000_007),
      );
      await assert.rejects(broken, (error: Error & { code?: string }) => {
        assert.equal(error.name, "RestError");
        assert.ok(["REQUEST_SEND_ERROR", "ECONNRESET", "EPIPE"].includes(error.code!), error.code);
        return true;
      });
    });
  });
