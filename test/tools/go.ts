/** Programs built from Go modules into a cache outside the tree. */
import { execFileSync, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

/** One `go build`. */
export interface GoBuild {
  /** folder of its go.mod and go.sum */
  folder: string;
  /** flags and packages */
  args: string[];
  /** name of the program; default: Go names the programs after their packages */
  name?: string;
}

export const cacheRoot = () => join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "fhir-export");

/** The version of the installed Go; undefined when there is none, or it is too old for the module.
 *  @param folder of a go.mod */
export function goVersion(folder: string): string | undefined {
  try {
    return execFileSync("go", ["env", "GOVERSION"], {
      cwd: folder,
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    }).trim();
  } catch {
    return undefined;
  }
}

/** The folder of these programs in the cache, whether or not they are built yet. */
export function cacheFolder(name: string, builds: GoBuild[], go: string): string {
  const hash = createHash("sha256").update(
    JSON.stringify([builds.map(({ args }) => args), process.platform, process.arch]),
  );
  for (const { folder } of builds)
    for (const file of readdirSync(folder).filter((file) => /^go\.(mod|sum)$|\.go$/.test(file)))
      hash.update(readFileSync(join(folder, file)));
  return join(cacheRoot(), `${name}-${hash.digest("hex").slice(0, 12)}-${go}`);
}

/** Folders of the same programs that another version of Go built. */
export function cacheFolders(name: string, builds: GoBuild[]): string[] {
  const start = cacheFolder(name, builds, "");
  return existsSync(cacheRoot())
    ? readdirSync(cacheRoot())
        .map((file) => join(cacheRoot(), file))
        .filter((path) => path.startsWith(start))
    : [];
}

/** Builds into a folder of the cache. The folder appears only when it is complete.
 *  @param options.whole whether a folder is complete
 *  @param options.finish adds files that are made by the programs
 *  @param options.say called with a line about each step and its duration */
export async function buildInto(
  folder: string,
  builds: GoBuild[],
  options: { whole: (folder: string) => boolean; finish?: (folder: string) => void; say: (line: string) => void },
): Promise<void> {
  mkdirSync(cacheRoot(), { recursive: true });
  const made = mkdtempSync(join(cacheRoot(), "building-"));
  try {
    for (const { folder: cwd, args, name } of builds) {
      const start = Date.now();
      await run(["build", "-o", name === undefined ? `${made}/` : join(made, name), ...args], cwd);
      options.say(
        `built ${name ?? args.filter((arg) => /^\w+\./.test(arg)).map((path) => path.split("/").pop())} in ${((Date.now() - start) / 1000).toFixed(0)} s`,
      );
    }
    options.finish?.(made);
    if (!options.whole(made)) throw new Error("go build made other programs than expected");
    try {
      renameSync(made, folder);
    } catch (error) {
      // Another build was faster. Its programs are the same.
      if (!options.whole(folder)) throw error;
    }
  } finally {
    rmSync(made, { recursive: true, force: true });
  }
}

function run(args: string[], cwd: string): Promise<void> {
  const child = spawn("go", args, {
    cwd,
    env: { ...process.env, CGO_ENABLED: "0" },
    stdio: ["ignore", "inherit", "inherit"],
  });
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (code, signal) =>
      code === 0 ? resolve() : reject(new Error(`go ${args[0]} ended with ${signal ?? code}`)),
    );
  });
}
