/** Schemathesis (PyPI) in a virtual environment of its own, kept outside the tree. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, renameSync, rmSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

const version = "4.32.5";
const cache = join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "fhir-export");

/** The program; undefined where there is no Python to install it with.
 *  @throws Error with pip's words when it cannot be installed */
export function schemathesis(): string | undefined {
  const folder = join(cache, `schemathesis-${version}`);
  const program = join(folder, "bin/schemathesis");
  if (existsSync(join(folder, "whole"))) return program;
  const python = ["python3.13", "python3.12", "python3.11", "python3"].find(
    (name) => spawnSync(name, ["-m", "venv", "--help"]).status === 0,
  );
  if (!python) return undefined;
  mkdirSync(cache, { recursive: true });
  // half of one, of a run that was stopped
  rmSync(folder, { recursive: true, force: true });
  const run = (command: string, args: string[]) => {
    const { status, stdout, stderr } = spawnSync(command, args, { encoding: "utf8" });
    if (status !== 0) throw new Error(`${command} ${args.join(" ")}: ${stdout}${stderr}`.slice(-2000));
  };
  run(python, ["-m", "venv", folder]);
  run(join(folder, "bin/pip"), ["install", "--quiet", "--disable-pip-version-check", `schemathesis==${version}`]);
  mkdirSync(join(folder, "whole-"), { recursive: true });
  renameSync(join(folder, "whole-"), join(folder, "whole"));
  return program;
}
