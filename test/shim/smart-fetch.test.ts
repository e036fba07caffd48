// A client that somebody else wrote, unchanged: smart-fetch (PyPI), of the SMART on FHIR team.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { promisify } from "node:util";
import { gunzipSync } from "node:zlib";
import { exportJWK, generateKeyPair } from "jose";
import { expected, type Wanted } from "../sources/expected.ts";
import { type Source, startSource } from "../sources/server.ts";
import { Standalone } from "../standalone/harness.ts";
import { pypi } from "../tools/pypi.ts";

const program = pypi("smart-fetch", "1.0.3");

suite("smart-fetch", { skip: program ? false : "no Python" }, () => {
  let root: string;
  let source: Source;
  let standalone: Standalone;
  before(async () => {
    if (!program) return;
    root = await mkdtemp(join(tmpdir(), "fhir-export-smart-fetch-"));
    source = await startSource();
    const { publicKey, privateKey } = await generateKeyPair("ES384", { extractable: true });
    const named = { kid: "research-1", alg: "ES384" };
    await writeFile(
      join(root, "key.jwks"),
      JSON.stringify({ keys: [{ ...(await exportJWK(privateKey)), ...named, key_ops: ["sign"] }] }),
    );
    await writeFile(
      join(root, "signing.jwk"),
      JSON.stringify({ kty: "oct", k: Buffer.alloc(32, 9).toString("base64url") }),
    );
    const client = {
      id: "research",
      jwks: { keys: [{ ...(await exportJWK(publicKey)), ...named }] },
      scopes: "system/*.rs",
    };
    await writeFile(
      join(root, "config.yaml"),
      JSON.stringify({
        exports: { output: { compression: "Gzip" } },
        auth: { tokens: { signingKeyFiles: [join(root, "signing.jwk")] }, clients: [client] },
      }),
    );
    standalone = await Standalone.start([
      ...[
        "--source",
        source.baseURL,
        "--target",
        join(root, "out"),
        "--data",
        join(root, "data"),
        "--retry-seconds",
        "5",
      ],
      ...["--config", join(root, "config.yaml")],
    ]);
  });
  after(async () => {
    await standalone?.end();
    await source?.close();
    if (root && !process.env.KEEP) await rm(root, { recursive: true, force: true });
  });

  async function fetched(folder: string, ...args: string[]): Promise<string[]> {
    const into = join(root, folder);
    const sign = ["--smart-client-id", "research", "--smart-key", join(root, "key.jwks")];
    const more = ["--type", "Patient,Observation,Condition", "--no-default-filters"];
    await promisify(execFile)(program!, [
      "--verbose",
      "bulk",
      "--fhir-url",
      standalone.baseURL,
      ...sign,
      ...more,
      ...args,
      into,
    ]);
    const files = (await readdir(into)).filter((name) => /^[A-Z].*\.ndjson\.gz$/.test(name));
    const texts = await Promise.all(files.map(async (name) => gunzipSync(await readFile(join(into, name))).toString()));
    return texts.flatMap((text) => text.split("\n").filter(Boolean)).sort();
  }
  const wanted = (more: Wanted) =>
    [...expected(source, { types: ["Patient", "Observation", "Condition"], ...more }).values()]
      .map((line) => line.toString())
      .sort();

  test("everything, signed in by SMART Backend Services", async () => {
    assert.deepEqual(await fetched("all"), wanted({}));
  });

  test("a Group, with a filter", async () => {
    const lines = await fetched("group", "--group", "ward", "--type-filter", "Observation?status=final");
    const is = ({ status }: { status: string }) => status === "final";
    assert.deepEqual(lines, wanted({ level: "Group", groupId: "ward", filters: { Observation: [is] } }));
  });

  test("it takes what it has fetched away: nothing is left", async () => {
    assert.match(standalone.output, /"audit":"cancel".*"client":"research"/);
  });
});
