// The operator as a process of its own, as a cluster would run it.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { planeUsers } from "../tools/namespace.ts";

export class OperatorProcess {
  readonly #args: string[];
  #child: ChildProcess | undefined;
  output = "";

  constructor(args: string[]) {
    this.#args = args;
  }

  start(): void {
    const args = ["src/main.ts", "operator", "--kubeconfig", planeUsers().operator, "--listen", "127.0.0.1:0", ...this.#args];
    const child = spawn(process.execPath, args, {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, FHIR_EXPORT_LOG_LEVEL: "debug" },
    });
    for (const stream of [child.stdout, child.stderr]) stream?.on("data", (chunk) => (this.output += chunk));
    this.#child = child;
  }

  /** SIGKILL, and gone */
  async kill(): Promise<void> {
    await this.#end("SIGKILL");
  }

  /** SIGTERM; the exit code */
  async stop(): Promise<number | null> {
    return this.#end("SIGTERM");
  }

  async #end(signal: NodeJS.Signals): Promise<number | null> {
    const child = this.#child;
    this.#child = undefined;
    if (!child || child.exitCode !== null) return child?.exitCode ?? null;
    const gone = once(child, "exit");
    child.kill(signal);
    const [code] = await gone;
    return code;
  }

  /** the log's lines */
  get lines(): Record<string, unknown>[] {
    return this.output
      .split("\n")
      .filter((line) => line.startsWith("{"))
      .map((line) => JSON.parse(line));
  }
}
