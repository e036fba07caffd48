import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { main } from "assemblyscript/asc";

/** Where the built module lies; it is committed, since a worker's image has no compiler. */
export const wasmPath = new URL("../scan.wasm", import.meta.url);

/** Compiles scan.ts. The same sources give the same bytes. */
export async function build(): Promise<Buffer> {
  const folder = mkdtempSync(join(tmpdir(), "scan-"));
  try {
    const out = join(folder, "scan.wasm");
    const { error, stderr } = await main([
      fileURLToPath(new URL("scan.ts", import.meta.url)),
      ...["--outFile", out],
      ...["--enable", "simd"],
      "-O3",
      "--noAssert",
      ...["--runtime", "stub"],
      // the host gives the memory, of any size; the module has no data of its own in it
      "--importMemory",
      "--noExportMemory",
      ...["--initialMemory", "2"],
      ...["--maximumMemory", "65536"],
    ]);
    if (error) throw new Error(`${error.message}\n${stderr}`);
    return readFileSync(out);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

// node src/scan/assembly/build.ts
if (import.meta.main) writeFileSync(wasmPath, await build());
