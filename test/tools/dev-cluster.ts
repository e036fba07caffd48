/** `npm run dev:cluster`: a control plane, a node whose pods are processes of this machine, the sample source, Azurite,
 *  operator and shim; CRDs and examples applied. Everything ends with Ctrl-C. */
import { type ChildProcess, spawn } from "node:child_process";
import { openSync, readFileSync } from "node:fs";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseAllDocuments } from "yaml";
import { type ApiCollection, KubeClient, type KubeObject, pathOf, resources } from "../../src/kube/client.ts";
import { applyRBAC } from "../cluster/rbac.ts";
import { startSource } from "../sources/server.ts";
import { freePort, startAzurite } from "./azurite.ts";
import { buildControlPlane } from "./build.ts";
import { startControlPlane } from "./control-plane.ts";
import { startKubelet } from "./kubelet.ts";
import { makeClaim } from "./namespace.ts";
import { applyCRDs } from "./setup.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));
const namespace = "default";
const kinds: Record<string, ApiCollection> = {
  FhirSource: resources.fhirSources,
  ExportTarget: resources.exportTargets,
  FhirExport: resources.fhirExports,
  Secret: resources.secrets,
};
/** The examples in the order in which a person would apply them. */
const examples = ["source", "target-azure-blob", "target-volume", "export-system", "export-patient", "export-group"];

const closers: (() => Promise<unknown> | unknown)[] = [];
const stop = Promise.withResolvers<void>();
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => stop.resolve());

try {
  await Promise.race([start(), stop.promise]);
  await stop.promise;
  console.log("\nending everything");
} catch (error) {
  console.error(error);
  process.exitCode = 1;
} finally {
  for (const close of closers.splice(0).reverse()) await close();
}

async function start(): Promise<void> {
  const programs = await buildControlPlane((line) => console.log(line));
  const folder = await mkdtemp(join(tmpdir(), "fhir-export-dev-"));
  closers.push(() => rm(folder, { recursive: true, force: true }));
  const plane = await startControlPlane(programs, { controllers: true });
  closers.push(() => plane.stop());
  await applyCRDs(plane.kubeconfig);
  const client = KubeClient.load(plane.kubeconfig);
  closers.push(() => client.close());
  await applyRBAC(client);
  const [source, azurite] = await Promise.all([startSource({ behaviour: { pageDelay: 100 } }), startAzurite()]);
  closers.push(
    () => source.close(),
    () => azurite.close(),
  );
  for (const name of ["volume", "target"]) await mkdir(join(folder, name));
  await writeFile(join(folder, "target/connection-string"), azurite.connectionString, { mode: 0o600 });
  // Nothing provisions volumes here, so the claim is made by hand.
  await makeClaim({ client, name: namespace, remove: async () => {} }, "exports", join(folder, "volume"));
  const kubelet = await startKubelet({ kubeconfig: plane.kubeconfig });
  closers.push(() => kubelet.stop());

  run("operator", folder, [
    ...[
      "--kubeconfig",
      plane.users.operator,
      "--image",
      "fhir-export:test",
      "--listen",
      `127.0.0.1:${await freePort()}`,
    ],
    ...[
      "--shard-resources",
      "500",
      "--inline-resources",
      "0",
      "--retry-seconds",
      "30",
      "--progress-seconds",
      "1",
      "--poll-seconds",
      "1",
    ],
  ]);
  const port = await freePort();
  const shim = `http://127.0.0.1:${port}`;
  run("shim", folder, [
    ...["--kubeconfig", plane.users.shim, "--namespace", namespace, "--source", "hospital", "--target", "azurite"],
    ...["--public-url", shim, "--host", "127.0.0.1", "--port", String(port), "--credentials", folder],
  ]);
  for (const file of examples) await apply(client, file, source.baseURL, azurite.accountURL);
  while (
    !(await fetch(`${shim}/readyz`).then(
      ({ ok }) => ok,
      () => false,
    ))
  )
    await sleep(50);

  console.log(`
Kubernetes API   ${plane.server}
sample source    ${source.baseURL}
Azurite          ${azurite.accountURL}
FHIR $export     ${shim}
logs             ${folder}/{operator,shim}.log

export KUBECONFIG=${plane.kubeconfig}
${programs.kubectl} get fhirexports --watch
${programs.kubectl} describe fhirexport everything
${programs.kubectl} explain fhirexport.spec
${programs.kubectl} get jobs,pods
curl -i -H 'Accept: application/fhir+json' -H 'Prefer: respond-async' '${shim}/Patient/$export?_type=Patient'

Ctrl-C ends all of it.`);
}

/** Applies an example with the addresses of the servers that run here. */
async function apply(client: KubeClient, file: string, sourceURL: string, accountURL: string): Promise<void> {
  const text = readFileSync(join(root, "examples", `${file}.yaml`), "utf8")
    .replaceAll("http://127.0.0.1:8080/fhir", sourceURL)
    .replaceAll("http://127.0.0.1:10000/devstoreaccount1", accountURL);
  for (const document of parseAllDocuments(text)) {
    const object: KubeObject = document.toJS();
    const resource = kinds[object.kind ?? ""];
    if (resource)
      await client.apply(pathOf(resource, { namespace, name: object.metadata.name }), object, "dev-cluster");
  }
}

function run(subcommand: string, folder: string, args: string[]): void {
  const log = openSync(join(folder, `${subcommand}.log`), "a");
  const child: ChildProcess = spawn(process.execPath, [join(root, "bin/fhir-export.mjs"), subcommand, ...args], {
    stdio: ["ignore", log, log],
    // It has a group of its own, so that Ctrl-C reaches only this process, which ends all in order.
    detached: true,
  });
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  void exited.then(() => stop.resolve());
  closers.push(async () => {
    child.kill("SIGTERM");
    const timer = setTimeout(() => child.kill("SIGKILL"), 15_000);
    await exited;
    clearTimeout(timer);
  });
}
