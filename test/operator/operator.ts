// The operator as a process of its own, as a cluster would run it.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { planeUsers } from "../tools/namespace.ts";

export interface OperatorOptions {
  /** default: that of the user with the operator's rights */
  kubeconfig?: string;
  env?: Record<string, string>;
}

export class OperatorProcess {
  readonly #args: string[];
  readonly #options: OperatorOptions;
  #child: ChildProcess | undefined;
  output = "";

  constructor(args: string[], options: OperatorOptions = {}) {
    this.#args = args;
    this.#options = options;
  }

  start(): void {
    const kubeconfig = this.#options.kubeconfig ?? planeUsers().operator;
    const args = ["src/main.ts", "operator", "--kubeconfig", kubeconfig, "--listen", "127.0.0.1:0", ...this.#args];
    const child = spawn(process.execPath, args, {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, FHIR_EXPORT_LOG_LEVEL: "debug", ...this.#options.env },
    });
    for (const stream of [child.stdout, child.stderr]) stream?.on("data", (chunk) => (this.output += chunk));
    this.#child = child;
  }

  /** SIGKILL, and gone */
  async kill(): Promise<void> {
    await this.#end("SIGKILL");
  }

  get pid(): number {
    return this.#child!.pid!;
  }
  /** Stops the process as it stands, and lets it go on. */
  freeze(): void {
    this.#child!.kill("SIGSTOP");
  }
  thaw(): void {
    this.#child!.kill("SIGCONT");
  }
  /** Its exit code, when it ends by itself. */
  async ended(): Promise<number | null> {
    const child = this.#child!;
    if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
    return child.exitCode;
  }

  /** SIGTERM; the exit code */
  async stop(): Promise<number | null> {
    return this.#end("SIGTERM");
  }

  async #end(signal: NodeJS.Signals): Promise<number | null> {
    const child = this.#child;
    this.#child = undefined;
    if (!child || child.exitCode !== null || child.signalCode !== null) return child?.exitCode ?? null;
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
