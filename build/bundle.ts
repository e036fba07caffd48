/** `node build/bundle.ts [FOLDER]`: all of src as plain JavaScript, as the image holds it: FOLDER/lib/bundle
 *  (main.mjs, its chunks, the scanner) and FOLDER/crds. Subcommands are chunks of their own, loaded when they run: a
 *  worker never loads the Kubernetes client, and the operator no storage SDK. */
import { cpSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { build, type Metafile } from "esbuild";

const root = join(import.meta.dirname, "..");

/** @param folder is made if it does not exist
 *  @returns the path of the program, and which file went into which chunk */
export async function bundle(folder: string): Promise<{ main: string; metafile: Metafile }> {
  const outdir = join(folder, "lib/bundle");
  const { metafile } = await build({
    entryPoints: [join(root, "src/main.ts")],
    outdir,
    bundle: true,
    splitting: true,
    platform: "node",
    format: "esm",
    target: "node24",
    outExtension: { ".js": ".mjs" },
    logLevel: "error",
    metafile: true,
    // the texts of licences go into a file beside each chunk
    legalComments: "linked",
    // packages in CommonJS call require for Node's own modules, which a module does not have
    banner: { js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);" },
    absWorkingDir: root,
  });
  cpSync(join(root, "src/scan/scan.wasm"), join(outdir, "scan.wasm"));
  mkdirSync(folder, { recursive: true });
  cpSync(join(root, "crds"), join(folder, "crds"), { recursive: true });
  return { main: join(outdir, "main.mjs"), metafile };
}

if (import.meta.main) {
  const folder = process.argv[2] ?? join(root, "dist");
  const { metafile } = await bundle(folder);
  writeFileSync(join(folder, "NOTICE"), "The licences of what is bundled are in lib/bundle/*.LEGAL.txt.\n");
  console.log(`${Object.keys(metafile.outputs).length} files in ${folder}`);
}
