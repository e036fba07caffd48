import { type ChildProcess, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import type { OperationOutcome } from "../../src/shim/outcome.ts";
import type { Manifest } from "../../src/sink/manifest.ts";
import { freePort } from "../tools/azurite.ts";
import { eventually } from "./eventually.ts";

const program = fileURLToPath(new URL("../../src/main.ts", import.meta.url));

/** Runs `fhir-export ARGS` to its end. */
export async function run(
  args: string[],
  env: NodeJS.ProcessEnv = process.env,
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const child = spawn(process.execPath, [program, ...args], { stdio: ["ignore", "pipe", "pipe"], env });
  const said = { stdout: "", stderr: "" };
  child.stdout.on("data", (chunk) => (said.stdout += chunk));
  child.stderr.on("data", (chunk) => (said.stderr += chunk));
  const code = await new Promise<number | null>((resolve) => child.once("close", resolve));
  return { code, ...said };
}

/** `fhir-export standalone` as a process of its own, which can be killed and started again on the same data. */
export class Standalone {
  readonly args: string[];
  readonly port: number;
  readonly #env: NodeJS.ProcessEnv;
  #child: ChildProcess | undefined;
  #exited: Promise<number | null> = Promise.resolve(null);
  output = "";

  private constructor(args: string[], port: number, env: NodeJS.ProcessEnv) {
    this.args = [...args, "--port", String(port)];
    this.port = port;
    this.#env = env;
  }

  static async start(args: string[], env: NodeJS.ProcessEnv = {}): Promise<Standalone> {
    const made = new Standalone(args, await freePort(), env);
    await made.start();
    return made;
  }

  get baseURL(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  get pid(): number {
    return this.#child!.pid!;
  }

  async start(): Promise<void> {
    const child = spawn(process.execPath, [program, "standalone", ...this.args], {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, FHIR_EXPORT_LOG_LEVEL: "debug", ...this.#env },
    });
    this.#child = child;
    for (const stream of [child.stdout, child.stderr]) stream!.on("data", (chunk) => (this.output += chunk));
    this.#exited = new Promise((resolve) => child.once("exit", resolve));
    await eventually(
      async () =>
        child.exitCode !== null ||
        (await fetch(`${this.baseURL}/readyz`).then(
          ({ ok }) => ok,
          () => false,
        )),
      (ready) => ready,
    );
    if (child.exitCode !== null) throw new Error(`standalone ended with ${child.exitCode}:\n${this.output}`);
  }

  /** @returns its exit code */
  async end(signal: NodeJS.Signals = "SIGTERM"): Promise<number | null> {
    this.#child?.kill(signal);
    return this.#exited;
  }

  /** pids of its workers: the processes in /proc whose parent it is */
  async workers(): Promise<number[]> {
    const found: number[] = [];
    for (const entry of await readdir("/proc")) {
      if (!/^\d+$/.test(entry)) continue;
      const stat = await readFile(`/proc/${entry}/stat`, "latin1").catch(() => "");
      const [state, parent] = stat.slice(stat.lastIndexOf(") ") + 2).split(" ");
      if (Number(parent) === this.pid && state !== "Z") found.push(Number(entry));
    }
    return found;
  }

  /** @returns the status URL */
  async kickOff(path: string, headers: Record<string, string> = {}): Promise<string> {
    const answer = await fetch(`${this.baseURL}${path}`, {
      headers: { accept: "application/fhir+json", prefer: "respond-async", ...headers },
    });
    const said = await answer.text();
    if (answer.status !== 202) throw new Error(`${answer.status} ${said}`);
    return answer.headers.get("content-location")!;
  }
}

export interface Ended {
  status: number;
  manifest?: Manifest;
  outcome?: OperationOutcome;
}

/** Polls until the export has ended. */
export async function ended(statusURL: string, timeoutMs = 60_000): Promise<Ended> {
  return eventually(
    async () => {
      const answer = await fetch(statusURL);
      const text = await answer.text();
      if (answer.status === 202) return { status: 202, outcome: `${answer.headers.get("x-progress")}` as never };
      const body = JSON.parse(text);
      return {
        status: answer.status,
        ...(answer.status === 200 ? { manifest: body as Manifest } : { outcome: body as OperationOutcome }),
      };
    },
    ({ status }) => status !== 202,
    // a status URL may be asked no more often for long: then it answers 429
    { timeoutMs, everyMs: 100 },
  );
}

/** Waits for an export that must succeed, and fetches its files as a client does. Sizes, counts and digests are checked
 *  against the manifest.
 *  @returns the manifest, the files by path and the lines by `Type/id` */
export async function complete(
  statusURL: string,
): Promise<{ manifest: Manifest; files: Map<string, Buffer>; lines: Map<string, string> }> {
  const { status, manifest, outcome } = await ended(statusURL);
  if (!manifest) throw new Error(`${status} ${JSON.stringify(outcome)}`);
  const files = new Map<string, Buffer>();
  const lines = new Map<string, string>();
  for (const { path, url, count, fileSize, sha256 } of [...manifest.output, ...manifest.error]) {
    const answer = await fetch(url);
    const bytes = Buffer.from(await answer.arrayBuffer());
    const found = [
      answer.status,
      answer.headers.get("content-type"),
      bytes.length,
      createHash("sha256").update(bytes).digest("hex"),
    ];
    const wanted = [200, "application/fhir+ndjson", fileSize, sha256];
    if (found.join() !== wanted.join()) throw new Error(`${path}: ${found.join(" ")} instead of ${wanted.join(" ")}`);
    files.set(path, bytes);
    const texts = bytes.toString().split("\n").slice(0, -1);
    if (texts.length !== count) throw new Error(`${path}: ${texts.length} lines instead of ${count}`);
    for (const line of path.startsWith("errors/") ? [] : texts) {
      const { resourceType, id } = JSON.parse(line) as { resourceType: string; id: string };
      if (lines.has(`${resourceType}/${id}`)) throw new Error(`${resourceType}/${id} is there twice`);
      lines.set(`${resourceType}/${id}`, line);
    }
  }
  return { manifest, files, lines };
}

/** Lines as text in one order, so that a failed comparison shows what differs. */
export const sorted = (lines: Map<string, Buffer | string>): [string, string][] =>
  [...lines].map(([name, line]): [string, string] => [name, line.toString()]).sort(([a], [b]) => (a < b ? -1 : 1));
