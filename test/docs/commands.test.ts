import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { type Source, startSource } from "../sources/server.ts";
import { freePort } from "../tools/azurite.ts";
import { pages, root } from "./pages.ts";

const sh = pages
  .flatMap(({ blocks }) => blocks)
  .filter(({ language, mark }) => language === "sh" && /^test: (?!cluster )/.test(mark ?? ""));
/** All blocks with the same name are one script, in their order on the page. */
const scripts = Map.groupBy(sh, ({ mark }) => mark!.slice("test: ".length));

interface Ran {
  code: number | null;
  output: string;
  folder: string;
}

/** Checks of each script: its commands do what the page says. */
const expectations: Record<string, (ran: Ran) => Promise<void> | void> = {
  demo: ({ output }) => {
    assert.match(output, /every SHA-256 verified; counts equal the source's/);
  },
  standalone: async ({ output, folder }) => {
    const { output: files } = JSON.parse(await readFile(join(folder, "manifest.json"), "utf8")) as {
      output: { path: string; type: string }[];
    };
    assert.deepEqual([...new Set(files.map(({ type }) => type))].sort(), ["Observation", "Patient"]);
    for (const { path } of files) assert.match(output, new RegExp(`${path}: OK$`, "m"));
    assert.match(output, /every file is as the manifest says/);
  },
  apply: ({ output }) => {
    assert.match(output, /-patients-[0-9a-f]{8}\/manifest\.json/);
  },
  "smart-key": async ({ folder }) => {
    const { kid, alg, d, x } = JSON.parse(await readFile(join(folder, "private-key.jwk"), "utf8")) as Record<
      string,
      string
    >;
    assert.deepEqual([kid, alg, typeof d], ["export-2026", "ES384", "string"]);
    const { keys } = JSON.parse(await readFile(join(folder, "jwks.json"), "utf8")) as {
      keys: Record<string, string>[];
    };
    assert.deepEqual([keys[0]?.x, keys[0]?.kid, keys[0]?.d], [x, "export-2026", undefined]);
  },
};

suite("commands of the docs", { timeout: 240_000 }, () => {
  let source: Source;
  before(async () => {
    source = await startSource();
  });
  after(() => source.close());

  test("each script has an expectation, and each expectation has a script", () => {
    assert.deepEqual([...scripts.keys()].sort(), Object.keys(expectations).sort());
  });

  for (const [name, blocks] of scripts)
    test(`${name} (${blocks.map(({ page, line }) => `${page}:${line}`).join(", ")})`, async () => {
      const folder = await mkdtemp(join(tmpdir(), "fhir-export-docs-"));
      try {
        for (const one of ["bin", "node_modules", "package.json"]) await symlink(root + one, join(folder, one));
        const port = await freePort();
        // The addresses of the docs are replaced by those of this test.
        const text = blocks
          .map((block) => block.text)
          .join("\n")
          .replaceAll("https://fhir.example.org/r4", source.baseURL)
          .replaceAll("8080", String(port));
        const ran = { ...(await runScript(text, folder)), folder };
        assert.equal(ran.code, 0, ran.output);
        await expectations[name]?.(ran);
      } finally {
        await rm(folder, { recursive: true });
      }
    });
});

/** Runs a script by `bash -e`. What it leaves in the background is ended afterwards. */
async function runScript(text: string, folder: string): Promise<{ code: number | null; output: string }> {
  const script = `
export PATH=${JSON.stringify(`${root}node_modules/.bin`)}:"$PATH"
# npm ci has installed this tree already, and must not do it again while other tests run. Other commands of npm run in the project's folder.
npm() { [ "$1" = ci ] || (cd ${JSON.stringify(root)} && command npm "$@"); }
trap 'jobs -p | xargs -r kill; wait' EXIT
${text}`;
  // The script has a process group of its own, so that nothing of it outlives the test.
  const child = spawn("bash", ["-e", "-o", "pipefail", "-c", script], {
    cwd: folder,
    stdio: ["ignore", "pipe", "pipe"],
    detached: true,
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => (output += chunk));
  const timer = setTimeout(() => process.kill(-child.pid!, "SIGKILL"), 200_000);
  const code = await new Promise<number | null>((resolve) => child.once("close", resolve));
  clearTimeout(timer);
  return { code, output };
}

test("the programs that the scripts need are installed", () => {
  for (const program of ["bash", "curl", "sha256sum"])
    assert.ok(
      ["/usr/bin/", "/bin/"].some((folder) => existsSync(folder + program)),
      program,
    );
});
