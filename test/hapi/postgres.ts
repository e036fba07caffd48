import { execFileSync, spawn } from "node:child_process";
import { globSync } from "node:fs";
import { chown, mkdtemp, readFile } from "node:fs/promises";
import { tmpdir, userInfo } from "node:os";
import { dirname, join } from "node:path";
import { freePort } from "../tools/azurite.ts";

export interface Postgres {
  /** for HAPI; its user is `postgres`, without a password */
  jdbc: string;
  port: number;
  /** of the process that starts all the others */
  pid: number;
  close(): Promise<void>;
}

/** The newest installed version of PostgreSQL, as Debian places it. */
function programs(): string | undefined {
  const found = globSync("/usr/lib/postgresql/*/bin/postgres");
  const version = (path: string) => Number(path.split("/")[4]);
  return found
    .sort((a, b) => version(a) - version(b))
    .map(dirname)
    .at(-1);
}

/** Says why PostgreSQL cannot be started on this machine; undefined when it can be started. */
export const postgresMissing = (): string | undefined =>
  programs() === undefined ? "PostgreSQL is not installed (Debian: apt-get install postgresql)" : undefined;

/** The major version: clusters of another one cannot be read. */
export const postgresVersion = (): string => programs()!.split("/")[4]!;

/** PostgreSQL refuses to run as root: then its files and processes belong to the user that Debian's package makes. */
const isRoot = userInfo().uid === 0;
const asUser = (program: string, args: string[]): [string, string[]] =>
  isRoot ? ["runuser", ["-u", "postgres", "--", program, ...args]] : [program, args];

/** A folder that the user of PostgreSQL may write to. */
export async function postgresFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "fhir-export-postgres-"));
  if (isRoot) await chown(folder, Number(idOf("-u")), Number(idOf("-g")));
  return folder;
}

const idOf = (flag: "-u" | "-g") => execFileSync("id", [flag, "postgres"], { encoding: "utf8" });

/** Makes a cluster with an empty database in `folder`/data. */
export function initPostgres(folder: string): void {
  const args = ["-D", join(folder, "data"), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8"];
  const [program, all] = asUser(join(programs()!, "initdb"), args);
  execFileSync(program, all, { stdio: ["ignore", "ignore", "inherit"] });
}

/** Starts the cluster in `folder`/data on a free port of loopback.
 *  @param settings beside the defaults of PostgreSQL */
export async function startPostgres(folder: string, settings: Record<string, string> = {}): Promise<Postgres> {
  const port = await freePort();
  const options = { listen_addresses: "127.0.0.1", unix_socket_directories: folder, ...settings };
  const [program, args] = asUser(join(programs()!, "postgres"), [
    ...["-D", join(folder, "data"), "-p", String(port)],
    ...Object.entries(options).flatMap(([name, value]) => ["-c", `${name}=${value}`]),
  ]);
  const child = spawn(program, args, { stdio: ["ignore", "ignore", "pipe"] });
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  let said = "";
  await new Promise<void>((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (code) => reject(new Error(`PostgreSQL ended with code ${code}: ${said}`)));
    child.stderr.on("data", (chunk: Buffer) => {
      if (said.length < 10_000) said += chunk;
      if (said.includes("ready to accept connections")) resolve();
    });
  });
  const pid = Number((await readFile(join(folder, "data", "postmaster.pid"), "utf8")).split("\n")[0]);
  return {
    jdbc: `jdbc:postgresql://127.0.0.1:${port}/postgres`,
    port,
    pid,
    close: async () => {
      // Fast shutdown: connections are ended, and the files are whole.
      process.kill(pid, "SIGINT");
      await exited;
    },
  };
}

/** Does what autovacuum does after a while. */
export function analyzePostgres({ port }: Postgres): void {
  const args = ["-h", "127.0.0.1", "-p", String(port), "-U", "postgres", "--analyze", "-q", "postgres"];
  execFileSync(join(programs()!, "vacuumdb"), args, { stdio: ["ignore", "ignore", "inherit"] });
}
