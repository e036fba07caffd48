import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import pkg from "../../package.json" with { type: "json" };
import { run, Standalone } from "./harness.ts";

let root: string;
before(async () => {
  root = await mkdtemp(join(tmpdir(), "fhir-export-cli-"));
  await writeFile(join(root, "not-exports.yaml"), "kind: Secret\nmetadata: {name: a}\n");
  await writeFile(
    join(root, "invalid.yaml"),
    "kind: FhirExport\nmetadata: {name: a}\nspec: {sourceRef: {name: source}, targetRef: {name: target}, groupId: g}\n",
  );
});
after(() => rm(root, { recursive: true }));

suite("the command line", () => {
  const standalone = ["standalone", "--source", "http://127.0.0.1:1/fhir", "--target"];
  const folders = () => [join(root, "out"), "--data", join(root, "data"), "--port", "0"];
  const cases: Record<string, { args: () => string[]; code: number; stdout?: RegExp; stderr?: RegExp }> = {
    "--version": {
      args: () => ["--version"],
      code: 0,
      stdout: new RegExp(`^${pkg.version.replaceAll(".", "\\.")}\n$`),
    },
    "--help": { args: () => ["--help"], code: 0, stdout: /fhir-export worker COMMAND/ },
    nothing: { args: () => [], code: 64, stderr: /a subcommand is missing/ },
    "an unknown command": { args: () => ["exprot"], code: 64, stderr: /unknown command "exprot"/ },
    "an unknown option": { args: () => ["--verbose"], code: 64, stderr: /unknown option "--verbose"/ },
    "an unknown worker command": {
      args: () => ["worker", "exprot"],
      code: 64,
      stderr: /worker takes exactly one command.*"exprot"/,
    },
    "a worker without its task": { args: () => ["worker", "plan"], code: 64 },
    "standalone --help": { args: () => ["standalone", "--help"], code: 0, stdout: /--source URL/ },
    "standalone, unknown option": { args: () => ["standalone", "--sauce", "x"], code: 64, stderr: /--sauce/ },
    "standalone without source": { args: () => ["standalone"], code: 64, stderr: /--source is missing/ },
    "standalone, a source that is no URL": {
      args: () => ["standalone", "--source", "fhir.example.org", "--target", ...folders()],
      code: 64,
      stderr: /baseURL must be an http or https URL/,
    },
    "standalone, a token that is not there": {
      args: () => [...standalone, ...folders(), "--source-auth-token", join(root, "none")],
      code: 64,
      stderr: /none does not exist/,
    },
    "standalone, a user name without password": {
      args: () => [...standalone, ...folders(), "--source-auth-username", "x"],
      code: 64,
      stderr: /belong together/,
    },
    "standalone, azure without connection string": {
      args: () => [...standalone, "azure", "--data", join(root, "data")],
      code: 64,
      stderr: /AZURE_STORAGE_CONNECTION_STRING/,
    },
    "standalone, a port that is none": {
      args: () => [...standalone, ...folders(), "--port", "http"],
      code: 64,
      stderr: /--port must be/,
    },
    "standalone, --apply of something else": {
      args: () => [...standalone, ...folders(), "--apply", join(root, "not-exports.yaml")],
      code: 64,
      stderr: /may hold only FhirExports, each with metadata.name/,
    },
    "standalone, --apply of an invalid FhirExport": {
      args: () => [...standalone, ...folders(), "--apply", join(root, "invalid.yaml")],
      code: 64,
      stderr: /groupId must be given when level is Group/,
    },
  };
  for (const [name, { args, code, stdout, stderr }] of Object.entries(cases))
    test(name, async () => {
      const { AZURE_STORAGE_CONNECTION_STRING: _, ...env } = process.env;
      const found = await run(args(), env);
      assert.equal(found.code, code, found.stderr);
      if (stdout) assert.match(found.stdout, stdout);
      if (stderr) assert.match(found.stderr, stderr);
      assert.doesNotMatch(found.stderr, /^\s+at /m);
    });

  test("a second standalone on the same data, or the same port, is refused and says why; SIGTERM ends the first with 0", async () => {
    const data = ["--data", join(root, "busy")];
    const first = await Standalone.start([
      "--source",
      "http://127.0.0.1:1/fhir",
      "--target",
      join(root, "out"),
      ...data,
    ]);
    const sameData = await run([...standalone, join(root, "out"), ...data, "--port", "0"]);
    assert.deepEqual([sameData.code, /uses the data folder/.test(sameData.stderr)], [64, true]);
    const samePort = await run([
      ...standalone,
      join(root, "out"),
      "--data",
      join(root, "other"),
      "--port",
      String(first.port),
    ]);
    assert.deepEqual([samePort.code, /EADDRINUSE.*--port/.test(samePort.stderr)], [64, true]);
    assert.equal(await first.end(), 0);
  });
});
