import { spawn } from "node:child_process";
import { createServer } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

export interface Azurite {
  /** the connection string of the well-known development account */
  connectionString: string;
  accountURL: string;
  pid: number;
  close(): Promise<void>;
}

// This key of the development account is public, and the same in every emulator.
const account = "devstoreaccount1";
export const accountKey = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/** Azure Storage's own emulator on a free port, in memory. Its script is started by node directly: ending npx would
 *  leave the server behind. */
export async function startAzurite({
  port,
  host = "127.0.0.1",
  tls,
}: {
  port?: number;
  host?: string;
  /** paths of PEM files to serve HTTPS, without which the emulator refuses access tokens (of which it checks the claims
   *  only) */
  tls?: { cert: string; key: string };
} = {}): Promise<Azurite> {
  const at = port ?? (await freePort());
  const script = fileURLToPath(import.meta.resolve("azurite/dist/src/blob/main.js"));
  const child = spawn(
    process.execPath,
    // The SDK uses newer API versions than the emulator knows.
    [
      script,
      "--blobHost",
      host,
      "--blobPort",
      String(at),
      "--inMemoryPersistence",
      "--skipApiVersionCheck",
      "--disableTelemetry",
      "--silent",
      ...(tls ? ["--cert", tls.cert, "--key", tls.key, "--oauth", "basic"] : []),
    ],
    { stdio: ["ignore", "pipe", "pipe"] },
  );
  let said = "";
  child.stdout.on("data", (chunk) => (said += chunk));
  child.stderr.on("data", (chunk) => (said += chunk));
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const scheme = tls ? "https" : "http";
  const accountURL = `${scheme}://${host}:${at}/${account}`;
  // 2 s on an idle machine
  for (const deadline = Date.now() + 120_000; ; ) {
    if (child.exitCode !== null || Date.now() > deadline) throw new Error(`Azurite did not start: ${said}`);
    try {
      await fetch(accountURL);
      break;
    } catch {
      await sleep(50);
    }
  }
  return {
    connectionString: `DefaultEndpointsProtocol=${scheme};AccountName=${account};AccountKey=${accountKey};BlobEndpoint=${accountURL};`,
    accountURL,
    pid: child.pid!,
    close: async () => {
      child.kill("SIGKILL");
      await exited;
    },
  };
}

/** The environment variable by which setup.ts passes the emulator of the whole run to the test files. */
export const sharedVariable = "FHIR_EXPORT_TEST_AZURITE";

/** The emulator of the whole run, whose start takes 2 s of a core, or one of the caller's own where the file runs
 *  without run.ts. Closing it ends only an own one. */
export async function shareAzurite(): Promise<Azurite> {
  const shared = process.env[sharedVariable];
  return shared ? { ...(JSON.parse(shared) as Omit<Azurite, "close">), close: async () => {} } : startAzurite();
}

export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}
