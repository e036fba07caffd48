import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { freePort } from "../tools/azurite.ts";
import { planeUsers } from "../tools/namespace.ts";
import { until } from "../tools/until.ts";

/** `fhir-export shim` as a process of its own, with the rights that the shim has in a cluster. */
export class ShimProcess {
  readonly baseURL: string;
  readonly #child: ChildProcess;
  output = "";

  /** @param publicURL the address that clients know: the first replica's, where there is no Service */
  constructor(port: number, publicURL: string, args: string[], kubeconfig = planeUsers().shim) {
    this.baseURL = `http://127.0.0.1:${port}`;
    this.#child = spawn(
      process.execPath,
      [
        ...["src/main.ts", "shim", "--public-url", publicURL, "--host", "127.0.0.1", "--port", String(port)],
        ...["--kubeconfig", kubeconfig, ...args],
      ],
      { stdio: ["ignore", "pipe", "pipe"] },
    );
    for (const stream of [this.#child.stdout, this.#child.stderr])
      stream!.on("data", (chunk) => (this.output += chunk));
  }

  static async replicas(count: number, args: string[], path = ""): Promise<ShimProcess[]> {
    const ports = await Promise.all(Array.from({ length: count }, freePort));
    const shims = ports.map((port) => new ShimProcess(port, `http://127.0.0.1:${ports[0]}${path}`, args));
    for (const shim of shims) await shim.ready();
    return shims;
  }

  async ready(): Promise<void> {
    await until(`the shim: ${this.output}`, async () =>
      fetch(`${this.baseURL}/readyz`).then(
        ({ ok }) => ok,
        () => false,
      ),
    );
  }

  /** SIGTERM; its exit code */
  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<number | null> {
    if (this.#child.exitCode !== null) return this.#child.exitCode;
    const gone = once(this.#child, "exit");
    this.#child.kill(signal);
    const [code] = await gone;
    return code;
  }

  kill(): Promise<number | null> {
    return this.stop("SIGKILL");
  }
}
