import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, globSync, readFileSync } from "node:fs";
import { cp, mkdir, mkdtemp, rename, rm } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { createServer } from "node:net";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";

export interface Hapi {
  /** `http://127.0.0.1:PORT/fhir` */
  baseURL: string;
  pid: number;
  close(): Promise<void>;
}

const project = join(import.meta.dirname, "server");
const startTimeoutMs = 180_000;

/** Says why HAPI cannot be started on this machine, so that a test can skip and print the reason; undefined when it can
 *  be started.
 *  @throws Error when CI=true: there it must run */
export function hapiMissing(): string | undefined {
  const missing = (["java", "mvn"] as const).filter((program) => !runs(program));
  // A server that was built before needs no Maven.
  if (missing.length === 0 || (missing[0] === "mvn" && existsSync(join(cacheFolder(), "built")))) return undefined;
  const reason = `HAPI FHIR needs Java 17 or newer and Maven; not found: ${missing.join(", ")}`;
  if (process.env.CI === "true") throw new Error(reason);
  return reason;
}

function runs(program: string): boolean {
  try {
    execFileSync(program, ["-version"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

export interface HapiOptions {
  heap?: string;
  maxPage?: number;
  /** URL of a PostgreSQL database; absent: an empty database in memory */
  jdbc?: string;
  /** a file that gets a line for each request (server/src/main/java/fhirexport/Hapi.java) */
  requestLog?: string;
}

/** Starts a HAPI FHIR JPA server. The first time, Maven builds the server into a cache outside the tree. */
export async function startHapi(options: HapiOptions = {}): Promise<Hapi> {
  const folder = await build();
  const port = await freePort();
  const child = spawn(
    "java",
    [
      `-Xmx${options.heap ?? "768m"}`,
      `-Dport=${port}`,
      ...(options.maxPage ? [`-Dmaxpage=${options.maxPage}`] : []),
      ...(options.jdbc ? [`-Djdbc=${options.jdbc}`, "-Ddbuser=postgres"] : []),
      ...(options.requestLog ? [`-Drequestlog=${options.requestLog}`] : []),
      "-cp",
      `${join(folder, "classes")}:${join(folder, "lib")}/*`,
      "fhirexport.Hapi",
    ],
    // The server ends when its standard input closes, so it also ends when this process is killed.
    { stdio: ["pipe", "pipe", "pipe"] },
  );
  const close = () => stop(child);
  try {
    await ready(child);
  } catch (error) {
    await close();
    throw error;
  }
  return { baseURL: `http://127.0.0.1:${port}/fhir`, pid: child.pid!, close };
}

function ready(child: ChildProcess): Promise<void> {
  const told: string[] = [];
  return new Promise((resolve, reject) => {
    const fail = (why: string) => reject(new Error(`HAPI ${why}\n${told.slice(-40).join("\n")}`));
    const timer = setTimeout(() => fail(`is not ready after ${startTimeoutMs / 1000} s`), startTimeoutMs);
    child.once("error", reject);
    child.once("exit", (code) => fail(`ended with code ${code} before it was ready`));
    // Both streams are read to their end, as a full pipe would block the server.
    createInterface(child.stderr!).on("line", (line) => told.length < 1000 && told.push(line));
    createInterface(child.stdout!).on("line", (line) => {
      if (told.length < 1000) told.push(line);
      if (!line.startsWith("READY")) return;
      clearTimeout(timer);
      child.removeAllListeners("exit");
      resolve();
    });
  });
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise((resolve) => child.once("exit", resolve));
  // A database in memory has nothing to save, and PostgreSQL has all that was answered.
  child.kill("SIGKILL");
  await gone;
}

function cacheFolder(): string {
  const hash = createHash("sha256");
  for (const file of globSync("**/*.{xml,java}", { cwd: project }).sort())
    hash.update(file).update(readFileSync(join(project, file)));
  return join(
    process.env.XDG_CACHE_HOME || join(homedir(), ".cache"),
    "fhir-export",
    `hapi-${hash.digest("hex").slice(0, 16)}`,
  );
}

/** Builds the server, unless the cache has it. @returns the folder with its classes/ and lib/ */
async function build(): Promise<string> {
  const folder = cacheFolder();
  if (existsSync(join(folder, "built"))) return folder;
  await mkdir(dirname(folder), { recursive: true });
  const work = await mkdtemp(`${folder}-`);
  try {
    await cp(project, work, { recursive: true });
    await maven(work);
    await mkdir(join(work, "done", "built"), { recursive: true });
    await rename(join(work, "target", "classes"), join(work, "done", "classes"));
    await rename(join(work, "lib"), join(work, "done", "lib"));
    // If two tests build at the same time, the result of the first one stays.
    await rename(join(work, "done"), folder).catch((error: unknown) => {
      if (!existsSync(join(folder, "built"))) throw error;
    });
    return folder;
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

async function maven(folder: string): Promise<void> {
  const child = spawn(
    "mvn",
    ["-q", "-B", "compile", "dependency:copy-dependencies", "-DoutputDirectory=lib", "-DincludeScope=runtime"],
    {
      cwd: folder,
      stdio: ["ignore", "pipe", "pipe"],
    },
  );
  let told = "";
  child.stdout.on("data", (chunk) => (told += chunk));
  child.stderr.on("data", (chunk) => (told += chunk));
  const code = await new Promise((resolve, reject) => child.once("error", reject).once("close", resolve));
  if (code !== 0) throw new Error(`Maven could not build HAPI (exit ${code})\n${told.slice(-4000)}`);
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

// .ci/run builds the server beforehand: it downloads much
if (import.meta.main) {
  const missing = hapiMissing();
  if (missing) console.log(missing);
  else console.log(`HAPI FHIR is in ${await build()}`);
}
