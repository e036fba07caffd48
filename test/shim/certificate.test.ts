import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, mock, suite, test } from "node:test";
import { connect, type Server } from "node:tls";
import { pino } from "pino";
import { Agent, request } from "undici";
import { followCertificate, readCertificate } from "../../src/shim/certificate.ts";
import { makeAuthority } from "../fhir/certificates.ts";
import { shim } from "./memory.ts";

suite("HTTPS of the service", () => {
  const authority = makeAuthority();
  let folder: string;
  const put = async ({ cert, key }: { cert: string; key: string }) => {
    await writeFile(join(folder, "tls.crt"), cert);
    await writeFile(join(folder, "tls.key"), key);
  };
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "fhir-export-tls-"));
  });
  after(() => rm(folder, { recursive: true }));

  const subjectOf = (port: number) =>
    new Promise<string>((resolve, reject) => {
      const socket = connect({ host: "127.0.0.1", port, ca: authority.cert }, () => {
        resolve(String(socket.getPeerCertificate().subject.CN));
        socket.destroy();
      }).on("error", reject);
    });

  test("serves, and gives new connections a renewed certificate; a wrong one changes nothing and is logged once", async (t) => {
    mock.timers.enable({ apis: ["setInterval"] });
    const lines: { level: number; problem?: string; msg: string }[] = [];
    const log = pino({}, { write: (line: string) => void lines.push(JSON.parse(line)) });
    await put(authority.issue("first"));
    const certificate = readCertificate(folder);
    const { app } = shim({ certificate });
    const end = followCertificate(folder, certificate, app.server as unknown as Server, log);
    const agent = new Agent({ connect: { ca: authority.cert } });
    t.after(async () => {
      end();
      mock.timers.reset();
      await agent.close();
      await app.close();
    });
    await app.listen({ host: "127.0.0.1", port: 0 });
    const { port } = app.server.address() as AddressInfo;
    const { statusCode, body } = await request(`https://127.0.0.1:${port}/readyz`, { dispatcher: agent });
    assert.deepEqual([statusCode, await body.text()], [200, "ok"]);
    assert.equal(await subjectOf(port), "first");
    await put(authority.issue("second"));
    mock.timers.tick(10_000);
    assert.equal(await subjectOf(port), "second");
    await put({ ...authority.issue("third"), key: authority.issue("other").key });
    mock.timers.tick(10_000);
    mock.timers.tick(10_000);
    assert.equal(await subjectOf(port), "second");
    assert.deepEqual(
      lines.map(({ level, msg }) => [level, msg]),
      [
        [30, "the certificate was renewed"],
        [50, "the renewed certificate is not usable; the one before stays in use"],
      ],
    );
  });

  test("an error at the start names the file that is missing or wrong", async () => {
    await assert.rejects(
      async () => readCertificate(join(folder, "none")),
      /tls\.crt in the folder that --tls names cannot be read \(ENOENT\)/,
    );
    await put({ ...authority.issue("one"), key: "no key" });
    await assert.rejects(async () => readCertificate(folder), /are not a certificate and its key, in PEM/);
  });
});
