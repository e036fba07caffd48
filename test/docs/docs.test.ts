import assert from "node:assert/strict";
import { existsSync, globSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { before, suite, test } from "node:test";
import { parse, parseAllDocuments } from "yaml";
import { type Crd, createValidator } from "../../src/api/validate.ts";
import { parseSettings } from "../../src/shim/settings.ts";
import { run } from "../standalone/harness.ts";
import { allReasons } from "../tools/reasons.ts";
import { type Block, codeOf, linksOf, pageOf, pages, root } from "./pages.ts";

const at = ({ page, line }: Block) => `${page}:${line}`;
const allBlocks = pages.flatMap(({ blocks }) => blocks);

for (const page of pages)
  test(`${page.path}: links lead somewhere`, () => {
    const broken = linksOf(page).filter((target) => {
      if (/^[a-z]+:/.test(target)) return !/^(https:\/\/|mailto:)/.test(target);
      const [file = "", anchor] = target.split("#", 2) as [string, string?];
      const path = file === "" ? page.path : normalize(join(dirname(page.path), file));
      if (!existsSync(root + path)) return true;
      return anchor !== undefined && !pageOf(path).anchors.has(anchor);
    });
    assert.deepEqual(broken, []);
  });

suite("YAML", () => {
  const validate = createValidator(
    ["fhirexport", "fhirsource", "exporttarget"].map(
      (kind): Crd => parse(readFileSync(`${root}crds/${kind}s.yaml`, "utf8")),
    ),
  );
  const problemsOf = (text: string): string[] =>
    parseAllDocuments(text).flatMap((document) => {
      if (document.errors.length > 0) return document.errors.map(({ message }) => message);
      const object = document.toJS() as { apiVersion?: string; kind?: string } | null;
      if (!object?.apiVersion?.startsWith("fhirexport.dev/")) return [];
      return validate(object).map((problem) => `${object.kind}: ${problem}`);
    });

  for (const block of allBlocks.filter(({ language }) => language === "yaml"))
    test(`${at(block)} is valid`, () => {
      if (block.mark === "shim config") parseSettings(block.text);
      else assert.deepEqual(problemsOf(block.text), []);
    });

  for (const path of globSync("examples/*.yaml", { cwd: root }).sort())
    test(`${path} is valid`, () => {
      assert.deepEqual(problemsOf(readFileSync(root + path, "utf8")), []);
    });
});

suite("flags", () => {
  const programs = ["operator", "shim", "standalone"] as const;
  const known = new Map<string, Set<string>>();
  before(async () => {
    for (const program of programs) {
      const { stdout, code } = await run([program, "--help"]);
      assert.equal(code, 0);
      known.set(program, new Set(stdout.match(/--[a-z][a-z-]+/g)));
    }
  });
  const others = new Set([
    "--help",
    "--version",
    "--keep",
    "--json",
    "--only",
    "--long",
    "--scale",
    "--ignore-scripts",
    // flags of node
    "--max-semi-space-size",
    "--initial-heap-size",
  ]);
  // Prose also names commands of other programs.
  const foreign = /^(?:az|kubectl|curl|docker|helm|npm|sha256sum|git|node) /;

  test("a flag that is named alone is a flag of one of the programs", () => {
    // AGENTS.md is about other programs, and names their flags
    const ours = pages.filter(({ path }) => path !== "AGENTS.md");
    const wrong = ours.flatMap((page) =>
      codeOf(page)
        .filter((text) => !foreign.test(text))
        .flatMap((text) => text.match(/(?<![\w-])--[a-z][a-z-]+/g) ?? [])
        .filter(
          (flag) => !others.has(flag) && !programs.some((program) => known.get(program)!.has(flag)) && !azure.has(flag),
        )
        .map((flag) => `${page.path}: ${flag}`),
    );
    assert.deepEqual(wrong, []);
  });

  test("the flags of a command are in its --help", () => {
    const wrong = allBlocks.flatMap((block) =>
      block.text
        .replaceAll("\\\n", " ")
        .split("\n")
        .flatMap((line) => {
          const program = /fhir-export(?:\.mjs)? (operator|shim|standalone)\b/.exec(line)?.[1];
          if (!program) return [];
          const flags = line.slice(line.indexOf(program)).match(/(?<![\w-])--[a-z][a-z-]+/g) ?? [];
          return flags
            .filter((flag) => !known.get(program)!.has(flag))
            .map((flag) => `${at(block)}: ${program} ${flag}`);
        }),
    );
    assert.deepEqual(wrong, []);
  });
});
/** Flags of az that prose names alone. */
const azure = new Set(["--enable-oidc-issuer", "--enable-workload-identity"]);

suite("settings of the HTTP service", () => {
  /** Whether the configuration accepts a member of this name. */
  const isKnown = (path: string) => {
    const nested = path
      .split(".")
      .reduceRight<unknown>((value, key) => (/^\d+$/.test(key) ? [value] : { [key]: value }), { $: 1 });
    try {
      parseSettings(JSON.stringify(nested));
      return true;
    } catch (error) {
      const last = path.split(".").at(-1);
      return !(error as Error).message.includes(`must NOT have additional properties (${last})`);
    }
  };

  test("an unknown setting is recognised as unknown", () => {
    assert.deepEqual(["compat", "files.delivery", "nope", "files.nope", "auth.nope", "auth.tokens.nope"].map(isKnown), [
      true,
      true,
      false,
      false,
      false,
      false,
    ]);
  });

  test("docs/http.md names only settings that exist", () => {
    const { text } = pageOf("docs/http.md");
    const rows = /\| setting \|.*\n\|[-|]+\n((?:\|.*\n)+)/.exec(text)![1]!.trim().split("\n");
    const named = rows.flatMap((line) => [...line.split("|")[1]!.matchAll(/`([\w.]+)`/g)].map(([, key]) => key!));
    assert.ok(named.length > 8, named.join());
    const exports = rows.find((line) => line.startsWith("| `exports`"))!;
    const fields = [...exports.matchAll(/`(\w+)`/g)].map(([, key]) => key!).filter((key) => key !== "exports");
    const client = ["jwks", "jwksURL", "groups", "disabled", "scopes", "types", "id"].map(
      (key) => `auth.clients.0.${key}`,
    );
    const issuer = ["url", "audience", "jwksURL", "clientClaim"].map((key) => `auth.issuer.${key}`);
    for (const key of client) assert.ok(/\.(id|types)$/.test(key) || text.includes(key.split(".").at(-1)!), key);
    for (const key of issuer) assert.ok(text.includes(`\`${key.split(".").at(-1)}\``), key);
    assert.deepEqual(
      [...named, ...fields.map((key) => `exports.${key}`), ...client, ...issuer].filter((key) => !isKnown(key)),
      [],
    );
  });

  test("settings that other pages name exist", () => {
    const wrong = pages.flatMap((page) =>
      codeOf(page)
        .filter((text) => /^(files|limits|allow|exports|auth)\.[\w.]+$/.test(text) && page.path !== "docs/sources.md")
        // A FhirSource has settings of the same name.
        .filter((text) => !/^limits\.(maxConcurrentExports|concurrentRequests|requestsPerSecond)$/.test(text))
        .filter((text) => !isKnown(text))
        .map((text) => `${page.path}: ${text}`),
    );
    assert.deepEqual(wrong, []);
  });

  test("docs/shim.yaml has no setting that docs/http.md does not name", () => {
    const shown = Object.keys(parse(readFileSync(`${root}docs/shim.yaml`, "utf8")) as object);
    const { text } = pageOf("docs/http.md");
    assert.deepEqual(
      shown.filter((key) => !text.includes(`\`${key}`)),
      [],
    );
  });
});

test("every reason that a condition or event can have is a heading of docs/troubleshooting.md, and no other heading looks like a reason", () => {
  const { prose } = pageOf("docs/troubleshooting.md");
  const headings = [...prose.matchAll(/^### ([A-Z]\w+)$/gm)].map(([, heading]) => heading!);
  assert.deepEqual(headings.sort(), allReasons());
});

test("docs/troubleshooting.md quotes messages as the code has them", () => {
  const code = globSync("src/**/*.ts", { cwd: root })
    .map((path) => readFileSync(root + path, "utf8"))
    .join("\n");
  // "…" stands for what differs from one message to the next; names of codes are no sentences
  const pieces = codeOf(pageOf("docs/troubleshooting.md"))
    .filter((text) => text.includes("…"))
    .flatMap((text) => text.split("…"))
    .map((piece) => piece.replace(/^[\s:;]+|[\s:;]+$/g, ""))
    .filter((piece) => piece.includes(" "));
  assert.ok(pieces.length > 15, pieces.join("; "));
  assert.deepEqual(
    pieces.filter((piece) => !code.includes(piece)),
    [],
  );
});

test("each block of sh is marked with who runs it: this machine or a cluster", () => {
  const wrong = allBlocks.filter(({ language, mark }) => {
    if (/^(bash|shell|console)$/.test(language)) return true;
    return language === "sh" && !/^test: (cluster )?[a-z-]+$/.test(mark ?? "");
  });
  assert.deepEqual(wrong.map(at), []);
});

test("the docs name nothing of this machine, and hold no emoji", () => {
  const wrong = pages.filter(({ text }) =>
    /\/(work|tmp|home|root)\/|\p{Extended_Pictographic}/u.test(text.replaceAll("✖", "")),
  );
  assert.deepEqual(
    wrong.map(({ path }) => path),
    [],
  );
});
