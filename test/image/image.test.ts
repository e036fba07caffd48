import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, suite, test } from "node:test";
import type { Metafile } from "esbuild";
import { bundle } from "../../build/bundle.ts";
import { nodeFlags } from "../../src/node-flags.ts";
import { buildah, buildImage, imageMissing, imageName, inImage } from "../tools/image.ts";

suite("the bundle", () => {
  let folder: string;
  let metafile: Metafile;
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "fhir-export-bundle-"));
    ({ metafile } = await bundle(folder));
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  /** Packages that are loaded when a source file is, by static imports alone. */
  function packagesOf(entry: string): Set<string> {
    const outputs = Object.entries(metafile.outputs);
    const [start] =
      outputs.find(([, { entryPoint }]) => entryPoint === entry) ?? assert.fail(`${entry} is no chunk of its own`);
    const seen = new Set<string>();
    const visit = (path: string) => {
      if (seen.has(path)) return;
      seen.add(path);
      for (const one of metafile.outputs[path]!.imports)
        if (one.kind === "import-statement" && !one.external) visit(one.path);
    };
    visit(start);
    const inputs = [...seen].flatMap((path) => Object.keys(metafile.outputs[path]!.inputs));
    return new Set(inputs.flatMap((path) => /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(path)?.[1] ?? []));
  }

  test("a worker loads no Kubernetes client and no HTTP server", () => {
    const found = packagesOf("src/worker/main.ts");
    assert(found.has("pino") && found.size > 3, [...found].join());
    for (const name of ["@kubernetes/client-node", "fastify", "prom-client"]) assert(!found.has(name), name);
    // a worker reads pages by node:net; it loads undici for tokens and Azure storage, and jose for SMART, only when it
    // needs them
    for (const entry of ["src/worker/main.ts", "src/worker/export.ts"])
      for (const name of ["undici", "jose", "@azure/storage-blob"])
        assert(!packagesOf(entry).has(name), `${entry}: ${name}`);
  });

  test("the operator loads no storage SDK, the program by itself nothing at all", () => {
    const found = packagesOf("src/kube/operator.ts");
    assert(found.has("@kubernetes/client-node"), [...found].join());
    for (const name of ["@azure/storage-blob", "@azure/identity", "fastify"]) assert(!found.has(name), name);
    assert.deepEqual([...packagesOf("src/main.ts")], []);
  });

  test("runs by itself: version, help, exit codes", () => {
    const run = (...args: string[]) =>
      spawnSync(process.execPath, [join(folder, "lib/bundle/main.mjs"), ...args], {
        encoding: "utf8",
        cwd: "/",
        env: {},
      });
    assert.match(run("--version").stdout, /^\d+\.\d+\.\d+\n$/);
    assert.match(run("shim", "--help").stdout, /--public-url/);
    assert.equal(run("nonsense").status, 64);
    const plan = run("worker", "plan");
    assert.match(plan.stdout, /FHIR_EXPORT_TASK is not set/);
    assert.notEqual(plan.status, 0);
  });
});

const missing = imageMissing();
if (missing) {
  if (process.env.CI === "true") throw new Error(missing);
  console.log(`!! SKIPPED: the image, as ${missing}`);
}

describe("the image", { skip: missing ?? false }, () => {
  let bytes: number;
  before(() => {
    if (!missing) bytes = buildImage();
  });

  test("is small", () => {
    console.log(`!! image: ${(bytes / 1e6).toFixed(0)} MB of files`);
    assert(bytes < 250e6, `${bytes}`);
  });

  test("runs as 65532, with the program as its entry point and labels", () => {
    const { OCIv1 } = JSON.parse(buildah(["inspect", "--type", "image", imageName])) as {
      OCIv1: {
        config: {
          User: string;
          Entrypoint: string[];
          Cmd: string[];
          Labels: Record<string, string>;
          WorkingDir: string;
        };
      };
    };
    const { User, Entrypoint, Cmd, Labels, WorkingDir } = OCIv1.config;
    assert.deepEqual([User, WorkingDir, Cmd], ["65532:65532", "/app", ["--help"]]);
    assert.deepEqual(Entrypoint, ["node", ...nodeFlags, "lib/bundle/main.mjs"]);
    const { version } = JSON.parse(readFileSync("package.json", "utf8")) as { version: string };
    assert.deepEqual(
      [Labels["org.opencontainers.image.title"], Labels["org.opencontainers.image.version"]],
      ["fhir-export", version],
    );
  });

  test("holds the program, the CRDs and a bill of materials; no shell, no package manager, nothing that a user could change", () =>
    inImage(imageName, (root) => {
      for (const path of [
        "app/lib/bundle/main.mjs",
        "app/lib/bundle/scan.wasm",
        "app/crds/fhirexports.yaml",
        "app/LICENSE",
      ])
        assert(statSync(join(root, path)).isFile(), path);
      for (const path of ["bin/sh", "usr/bin/sh", "usr/local/bin/npm", "usr/local/lib/npm"])
        assert.throws(() => statSync(join(root, path)), /ENOENT/, path);
      for (const name of readdirSync(join(root, "app"), { recursive: true, encoding: "utf8" })) {
        const { uid, mode } = statSync(join(root, "app", name));
        assert.deepEqual([uid, mode & 0o022], [0, 0], name);
      }
      const sbom = JSON.parse(readFileSync(join(root, "app/sbom.cdx.json"), "utf8")) as {
        bomFormat: string;
        components: { name: string }[];
      };
      assert.equal(sbom.bomFormat, "CycloneDX");
      const names = sbom.components.map(({ name }) => name);
      assert(names.includes("fastify") && !names.includes("typescript"), names.slice(0, 20).join());
    }));

  test("starts without a shell, and refuses a worker without a task", () => {
    const container = buildah(["from", imageName]).trim();
    try {
      const start = performance.now();
      const version = buildah(["run", container, "--", "node", "lib/bundle/main.mjs", "--version"]);
      console.log(`!! image: ${(performance.now() - start).toFixed(0)} ms to the version, buildah's own time included`);
      assert.match(version, /^\d+\.\d+\.\d+\n$/);
      assert.throws(
        () => buildah(["run", container, "--", "node", "lib/bundle/main.mjs", "worker", "plan"]),
        /FHIR_EXPORT_TASK is not set/,
      );
    } finally {
      buildah(["rm", container]);
    }
  });
});
