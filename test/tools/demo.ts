/** `npm run demo [-- --keep]`: one FHIR $export over HTTP, end to end, without cluster and cloud. Starts a sample FHIR
 *  server, Azurite (Azure Storage's emulator) and `fhir-export standalone`, follows an export to its end, downloads
 *  every file and compares counts and SHA-256 sums with the source. Exits 0 only if all is equal. --keep leaves it
 *  running and prints lines to try. */
import { type ChildProcess, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import type { Manifest, ManifestItem } from "../../src/sink/manifest.ts";
import { type Source, startSource } from "../sources/server.ts";
import { type Azurite, freePort, startAzurite } from "./azurite.ts";

const { values } = parseArgs({ options: { keep: { type: "boolean", default: false } } });
const stop = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => stop.abort());

interface Started {
  source: Source;
  azurite: Azurite;
  standalone: ChildProcess;
  baseURL: string;
  close(): Promise<void>;
}

/** Everything that was started is ended by its own handle, whatever happens meanwhile. */
async function start(): Promise<Started> {
  const closers: (() => Promise<unknown>)[] = [];
  const close = async () => {
    for (const closer of closers.splice(0).reverse()) await closer();
  };
  try {
    const folder = await mkdtemp(join(tmpdir(), "fhir-export-demo-"));
    closers.push(() => rm(folder, { recursive: true, force: true }));
    const source = await startSource({ behaviour: { pageDelay: 40 } });
    closers.push(() => source.close());
    const azurite = await startAzurite();
    closers.push(() => azurite.close());
    const port = await freePort();
    const baseURL = `http://127.0.0.1:${port}`;
    const standalone = startStandalone(source, azurite, join(folder, "data"), port);
    closers.push(() => endOf(standalone));
    await until(async () => {
      if (standalone.exitCode !== null) throw new Error("standalone ended; what it said is above");
      return fetch(`${baseURL}/readyz`).then(
        ({ ok }) => ok,
        () => false,
      );
    });
    return { source, azurite, standalone, baseURL, close };
  } catch (error) {
    await close();
    throw error;
  }
}

function startStandalone(source: Source, azurite: Azurite, data: string, port: number): ChildProcess {
  const program = fileURLToPath(new URL("../../src/main.ts", import.meta.url));
  const args = [
    "--source",
    source.baseURL,
    "--target",
    "azure",
    "--container",
    "demo",
    "--data",
    data,
    "--port",
    String(port),
  ];
  return spawn(
    process.execPath,
    [program, "standalone", ...args, "--shard-resources", "1000", "--inline-resources", "0", "--page-size", "100"],
    {
      stdio: ["ignore", "ignore", "inherit"],
      // It has a group of its own, so that Ctrl-C reaches only this process, which ends all in order.
      detached: true,
      env: { ...process.env, AZURE_STORAGE_CONNECTION_STRING: azurite.connectionString },
    },
  );
}

async function endOf(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGTERM");
  const timer = setTimeout(() => child.kill("SIGKILL"), 15_000);
  await exited;
  clearTimeout(timer);
}

async function until(holds: () => Promise<boolean>): Promise<void> {
  while (!(await holds())) await sleep(50, undefined, { signal: stop.signal });
}

/** Polls the status URL as a client does. @returns the manifest */
async function follow(statusURL: string): Promise<Manifest> {
  const tty = process.stdout.isTTY;
  let shown = "";
  for (;;) {
    const answer = await fetch(statusURL, { signal: stop.signal });
    const body = await answer.text();
    if (answer.status !== 202) {
      if (tty) process.stdout.write("\r\x1b[K");
      if (answer.status !== 200) throw new Error(`the export failed: ${answer.status} ${body}`);
      return JSON.parse(body) as Manifest;
    }
    const progress = answer.headers.get("x-progress") ?? "";
    if (progress !== shown) process.stdout.write(tty ? `\r\x1b[K  ${bar(progress)} ${progress}` : `  ${progress}\n`);
    shown = progress;
    await sleep(200, undefined, { signal: stop.signal });
  }
}

function bar(progress: string): string {
  const full = Math.floor((Number.parseInt(progress, 10) || 0) / 5);
  return `[${"#".repeat(full)}${".".repeat(20 - full)}]`;
}

/** Downloads a file from the shim. @returns its real count and digest */
async function download(item: ManifestItem): Promise<{ lines: number; bytes: number; sha256: string }> {
  const answer = await fetch(item.url, { signal: stop.signal });
  if (!answer.ok) throw new Error(`${item.url}: ${answer.status}`);
  const hash = createHash("sha256");
  let [lines, bytes] = [0, 0];
  for await (const chunk of answer.body!) {
    hash.update(chunk);
    bytes += chunk.length;
    for (const byte of chunk) if (byte === 10) lines += 1;
  }
  return { lines, bytes, sha256: hash.digest("hex") };
}

async function show({ source, baseURL }: Started, began: number): Promise<boolean> {
  const held = source.dump();
  console.log(`Sample FHIR server  ${source.baseURL}  (${held.size} resources)`);
  console.log(`fhir-export         ${baseURL}  -> Azure Blob Storage (Azurite), container "demo"\n`);
  console.log(`GET ${baseURL}/$export`);
  const kickOff = await fetch(`${baseURL}/$export`, {
    headers: { accept: "application/fhir+json", prefer: "respond-async" },
    signal: stop.signal,
  });
  if (kickOff.status !== 202) throw new Error(`kick-off: ${kickOff.status} ${await kickOff.text()}`);
  const statusURL = kickOff.headers.get("content-location")!;
  console.log(`202 Accepted, status at ${statusURL}\n`);
  const manifest = await follow(statusURL);

  const found = new Map<string, number>();
  let wrong = 0;
  console.log(`${"FILE".padEnd(34)} ${"RESOURCES".padStart(9)} ${"BYTES".padStart(10)}  SHA-256`);
  for (const item of [...manifest.output].sort((a, b) => (a.path < b.path ? -1 : 1))) {
    const { lines, bytes, sha256 } = await download(item);
    const right = sha256 === item.sha256 && bytes === item.fileSize && lines === item.count;
    if (!right) wrong += 1;
    found.set(item.type, (found.get(item.type) ?? 0) + lines);
    console.log(
      `${item.path.padEnd(34)} ${String(lines).padStart(9)} ${String(bytes).padStart(10)}  ${sha256.slice(0, 16)}… ${right ? "ok" : "WRONG"}`,
    );
  }
  const wanted = new Map<string, number>();
  for (const name of held.keys()) {
    const type = name.slice(0, name.indexOf("/"));
    wanted.set(type, (wanted.get(type) ?? 0) + 1);
  }
  const different = [...new Set([...wanted.keys(), ...found.keys()])].filter(
    (type) => wanted.get(type) !== found.get(type),
  );
  for (const type of different)
    console.log(`${type}: ${found.get(type) ?? 0} exported, but the source holds ${wanted.get(type) ?? 0}`);
  const total = [...found.values()].reduce((sum, count) => sum + count, 0);
  const good = wrong === 0 && different.length === 0 && manifest.error.length === 0;
  console.log(
    `\n${total} resources of ${found.size} types in ${manifest.output.length} files as of ${manifest.transactionTime}; ` +
      `${wrong === 0 ? "every SHA-256 verified" : `${wrong} files are WRONG`}; ` +
      `${different.length === 0 ? "counts equal the source's" : "counts DIFFER from the source's"}. ` +
      `${((Date.now() - began) / 1000).toFixed(1)} s`,
  );
  if (values.keep) console.log(hints(baseURL, statusURL));
  return good;
}

const hints = (baseURL: string, statusURL: string) => `
Still running; Ctrl-C ends it. Try:

  curl -i -H 'Accept: application/fhir+json' -H 'Prefer: respond-async' '${baseURL}/Group/ward/$export?_type=Patient,Observation'
  curl -i -H 'Accept: application/fhir+json' -H 'Prefer: respond-async' '${baseURL}/Patient/$export?_typeFilter=Patient%3Fgender%3Dfemale'
  curl -i '${statusURL}'
  curl -i -X DELETE '${statusURL}'
  curl '${baseURL}/metadata'
`;

const began = Date.now();
let started: Started | undefined;
try {
  started = await start();
  process.exitCode = (await show(started, began)) ? 0 : 1;
  if (values.keep && !stop.signal.aborted)
    await new Promise<void>((resolve) => stop.signal.addEventListener("abort", () => resolve()));
} catch (error) {
  if (!stop.signal.aborted) console.error(error instanceof Error ? error.message : error);
  process.exitCode = stop.signal.aborted ? 130 : 1;
} finally {
  await started?.close();
}
