import { chmodSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { accountKey } from "../tools/azurite.ts";
import type { Spawned, TestNode } from "../tools/node/node.ts";
import { kubectl, listens, until } from "../tools/node/shared.ts";

export const root = join(import.meta.dirname, "../..");

/** The surroundings of an installation: FHIR servers and storage as processes of the node, which pods reach by the
 *  node's address. */
export interface Site {
  source: string;
  /** a source with the same resources that answers slowly */
  slow: string;
  accountURL: string;
  connectionString: string;
  /** the folder with the files that the docs name */
  folder: string;
  /** SHA-256 of each blob by its path */
  blobs(container: string): Promise<Record<string, string>>;
  /** SHA-256 of an export's files by their name in its folder, without the manifest and other files that hold times and
   *  places. */
  filesOf(container: string, folder: string): Promise<Record<string, string>>;
  /** Runs an export of this spec by a standalone with the same settings. @returns its files, as filesOf does */
  standalone(name: string, spec: object): Promise<Record<string, string>>;
  stop(): Promise<void>;
}

/** For every installation and for the standalone that it is compared with: it makes several packages of a small
 *  export. */
export const shardResources = 1000;

export async function makeSite(node: TestNode): Promise<Site> {
  const folder = join(node.files, "site");
  mkdirSync(folder, { recursive: true });
  for (const name of ["charts", "crds", "docs"]) symlinkSync(join(root, name), join(folder, name));
  const spawned: Spawned[] = [startSource(node, 8080, 0), startSource(node, 8081, 250), startAzurite(node, 10_000)];
  for (const port of [8080, 8081, 10_000]) await listens(node, port);
  const source = `http://${node.address}:8080/fhir`;
  const accountURL = `http://${node.address}:10000/devstoreaccount1`;
  const connectionString = `DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey=${accountKey};BlobEndpoint=${accountURL};`;
  writeFileSync(join(folder, "connection-string.txt"), connectionString);
  const blobs = async (container: string) => {
    const program = join(root, "test/e2e/blobs.ts");
    const { stdout, stderr, code } = await node.run(["node", program, connectionString, container]);
    if (code !== 0) throw new Error(stderr);
    return JSON.parse(stdout) as Record<string, string>;
  };
  const filesOf = async (container: string, prefix: string) =>
    Object.fromEntries(
      Object.entries(await blobs(container))
        .filter(([path]) => path.startsWith(prefix) && !/(^|\/)(manifest\.json|SHA256SUMS|_work\/.*)$/.test(path))
        .map(([path, sha256]) => [path.slice(path.indexOf("/", prefix.length - 1) + 1), sha256]),
    );
  return {
    source,
    slow: `http://${node.address}:8081/fhir`,
    accountURL,
    connectionString,
    folder,
    blobs,
    filesOf,
    standalone: async (name, spec) => {
      const { container, process } = startStandalone(node, { source, folder, name, spec });
      const isDone = async () => Object.keys(await blobs(container)).some((path) => path.endsWith("/manifest.json"));
      await until(`the export of a standalone (${name})`, isDone, 60_000);
      await process.stop();
      return filesOf(container, "");
    },
    stop: async () => void (await Promise.all(spawned.map((one) => one.stop()))),
  };
}

/** Starts the sample source as a process of the node.
 *  @param delay milliseconds before each page */
function startSource(node: TestNode, port: number, delay: number): Spawned {
  const options = ["--host", node.address, "--port", String(port), "--page-delay", String(delay)];
  return node.spawn(["node", "test/sources/main.ts", ...options], { cwd: root, name: `source-${port}` });
}

function startAzurite(node: TestNode, port: number): Spawned {
  const listen = ["--blobHost", node.address, "--blobPort", String(port)];
  const options = ["--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry", "--silent"];
  const program = "node_modules/azurite/dist/src/blob/main.js";
  return node.spawn(["node", program, ...listen, ...options], { cwd: root, name: "azurite" });
}

/** Starts a standalone that exports into a container of its own. */
function startStandalone(
  node: TestNode,
  { source, folder, name, spec }: { source: string; folder: string; name: string; spec: object },
): { container: string; process: Spawned } {
  const file = join(folder, `${name}.json`);
  const object = {
    apiVersion: "fhirexport.dev/v1alpha1",
    kind: "FhirExport",
    metadata: { name },
    spec: { ...spec, sourceRef: { name: "source" }, targetRef: { name: "target" } },
  };
  writeFileSync(file, JSON.stringify(object));
  const container = `standalone-${name}`;
  const from = ["--source", source, "--apply", file, "--data", join(folder, `${name}.data`), "--port", "0"];
  const to = ["--target", "azure", "--container", container];
  const credentials = ["--azure-connection-string", join(folder, "connection-string.txt")];
  const shards = ["--shard-resources", String(shardResources), "--inline-resources", "0"];
  const command = ["node", "bin/fhir-export.mjs", "standalone", ...from, ...to, ...credentials, ...shards];
  return { container, process: node.spawn(command, { cwd: root, name: container }) };
}

/** A volume of the node's disk for a claim that several pods write to. */
export async function makeVolume(node: TestNode, namespace: string, claim: string): Promise<string> {
  const path = join(node.files, `volume-${namespace}-${claim}`);
  mkdirSync(path, { recursive: true });
  // A provisioner would give write access by fsGroup.
  chmodSync(path, 0o777);
  const volume = {
    apiVersion: "v1",
    kind: "PersistentVolume",
    metadata: { name: `${namespace}-${claim}` },
    spec: {
      capacity: { storage: "100Gi" },
      accessModes: ["ReadWriteMany"],
      hostPath: { path },
      claimRef: { namespace, name: claim },
      persistentVolumeReclaimPolicy: "Retain",
    },
  };
  await kubectl(node, ["create", "--filename", "-"], JSON.stringify(volume));
  return path;
}

/** Scripts of a page of the docs that need a cluster, by name. */
export function scriptsOf(page: string): Map<string, string> {
  const text = readFileSync(join(root, page), "utf8");
  const found = new Map<string, string>();
  for (const [, name, script] of text.matchAll(/<!-- test: cluster ([a-z-]+) -->\n```sh\n([\s\S]*?)```/g))
    found.set(name!, `${found.get(name!) ?? ""}${script}`);
  return found;
}

/** Runs a script of the docs on the node, as a reader of the docs would. Only the values of the chart for the image,
 *  small shards and frequent progress are added.
 *  @param helm helm3 or helm4 */
export async function runScript(node: TestNode, site: Site, script: string, helm = "helm3"): Promise<string> {
  const [registry, repository, tag] = ["localhost", "fhir-export", "test"];
  const here = [
    `image.registry=${registry},image.repository=${repository},image.tag=${tag},image.pullPolicy=Never`,
    `operator.shardResources=${shardResources},operator.inlineResources=0,operator.progressSeconds=1,operator.pollSeconds=1`,
  ].flatMap((values) => ["--set", values]);
  const prelude = `set -euo pipefail
helm() { if [ "$1" = install ]; then command ${helm} "$@" ${here.join(" ")}; else command ${helm} "$@"; fi; }
cd ${site.folder}
`;
  const { stdout, stderr, code } = await node.run(["bash", "-c", prelude + script], {
    timeoutMs: 300_000,
    env: { FHIR_SERVER: site.source, ACCOUNT_URL: site.accountURL },
  });
  if (code !== 0) throw new Error(`${script}\nended with ${code}: ${stdout}${stderr}`);
  return stdout;
}
