/** Programs of PyPI, each in a virtual environment of its own that is kept outside the tree. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, renameSync, rmSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

const cache = join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "fhir-export");

/** The program of the package of the same name. Without Python it is undefined; in CI that is an error.
 *  @throws Error with pip's output when the package cannot be installed */
export function pypi(name: string, version: string): string | undefined {
  const folder = join(cache, `${name}-${version}`);
  const program = join(folder, "bin", name);
  if (existsSync(join(folder, "whole"))) return program;
  const python = ["python3.13", "python3.12", "python3.11", "python3"].find(
    (one) => spawnSync(one, ["-m", "venv", "--help"]).status === 0,
  );
  if (!python) {
    if (process.env.CI === "true") throw new Error(`python3 with venv is missing, which installs ${name}`);
    console.log(`!! SKIPPED: ${name}, as there is no python3 with venv`);
    return undefined;
  }
  mkdirSync(cache, { recursive: true });
  // A run that was stopped may have left an incomplete environment.
  rmSync(folder, { recursive: true, force: true });
  const run = (command: string, args: string[]) => {
    const { status, stdout, stderr } = spawnSync(command, args, { encoding: "utf8" });
    if (status !== 0) throw new Error(`${command} ${args.join(" ")}: ${stdout}${stderr}`.slice(-2000));
  };
  run(python, ["-m", "venv", folder]);
  run(join(folder, "bin/pip"), ["install", "--quiet", "--disable-pip-version-check", `${name}==${version}`]);
  mkdirSync(join(folder, "whole-"), { recursive: true });
  renameSync(join(folder, "whole-"), join(folder, "whole"));
  return program;
}
