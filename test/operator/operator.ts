// The operator as a process of its own, as a cluster would run it.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { planeUsers } from "../tools/namespace.ts";

export interface OperatorOptions {
  /** by default the kubeconfig of a user with the operator's rights */
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

  /** Kills the process with SIGKILL, and waits until it is gone. */
  async kill(): Promise<void> {
    await this.#end("SIGKILL");
  }

  get pid(): number {
    return this.#child!.pid!;
  }
  /** Stops the process (SIGSTOP), or lets it continue (SIGCONT). */
  freeze(): void {
    this.#child!.kill("SIGSTOP");
  }
  thaw(): void {
    this.#child!.kill("SIGCONT");
  }
  /** Waits until the process ends by itself. @returns its exit code */
  async ended(): Promise<number | null> {
    const child = this.#child!;
    if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
    return child.exitCode;
  }

  /** Ends the process with SIGTERM. @returns its exit code */
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

  /** the lines of its log */
  get lines(): Record<string, unknown>[] {
    return this.output
      .split("\n")
      .filter((line) => line.startsWith("{"))
      .map((line) => JSON.parse(line));
  }
}
