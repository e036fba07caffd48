import { chmodSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { accountKey } from "../tools/azurite.ts";
import type { Spawned, TestNode } from "../tools/node/node.ts";
import { kubectl, listens, until } from "../tools/node/shared.ts";

export const root = join(import.meta.dirname, "../..");

/** What surrounds an installation: FHIR servers and storage as processes of the node, which pods reach by its address. */
export interface Site {
  source: string;
  /** the same resources, slowly */
  slow: string;
  accountURL: string;
  connectionString: string;
  /** a folder with the files that the docs speak of */
  folder: string;
  /** SHA-256 of each blob by its path */
  blobs(container: string): Promise<Record<string, string>>;
  /** Files of an export by their name in its folder, without those that name time and place. */
  filesOf(container: string, folder: string): Promise<Record<string, string>>;
  /** What a standalone with the same settings writes of this FhirExport's spec. */
  standalone(name: string, spec: object): Promise<Record<string, string>>;
  stop(): Promise<void>;
}

/** of every installation and of the standalone that it is compared with: small exports in several packages */
export const shardResources = 1000;

export async function makeSite(node: TestNode): Promise<Site> {
  const folder = join(node.files, "site");
  mkdirSync(folder, { recursive: true });
  for (const name of ["charts", "crds", "docs"]) symlinkSync(join(root, name), join(folder, name));
  const source = (port: number, delay: number) =>
    node.spawn(
      ["node", "test/sources/main.ts", "--host", node.address, "--port", String(port), "--page-delay", String(delay)],
      {
        cwd: root,
        name: `source-${port}`,
      },
    );
  const azurite = [
    "--blobHost",
    node.address,
    "--blobPort",
    "10000",
    "--inMemoryPersistence",
    "--skipApiVersionCheck",
    "--disableTelemetry",
    "--silent",
  ];
  const spawned: Spawned[] = [
    source(8080, 0),
    source(8081, 250),
    node.spawn(["node", "node_modules/azurite/dist/src/blob/main.js", ...azurite], { cwd: root, name: "azurite" }),
  ];
  for (const port of [8080, 8081, 10000]) await listens(node, port);
  const accountURL = `http://${node.address}:10000/devstoreaccount1`;
  const connectionString = `DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey=${accountKey};BlobEndpoint=${accountURL};`;
  writeFileSync(join(folder, "connection-string.txt"), connectionString);
  const blobs = async (container: string) => {
    const { stdout, stderr, code } = await node.run([
      "node",
      join(root, "test/e2e/blobs.ts"),
      connectionString,
      container,
    ]);
    if (code !== 0) throw new Error(stderr);
    return JSON.parse(stdout) as Record<string, string>;
  };
  const filesOf = async (container: string, prefix: string) =>
    Object.fromEntries(
      Object.entries(await blobs(container))
        .filter(([path]) => path.startsWith(prefix) && !/(^|\/)(manifest\.json|SHA256SUMS|_work\/.*)$/.test(path))
        .map(([path, sha256]) => [path.slice(path.indexOf("/", prefix.length - 1) + 1), sha256]),
    );
  const sourceURL = `http://${node.address}:8080/fhir`;
  return {
    source: sourceURL,
    slow: `http://${node.address}:8081/fhir`,
    accountURL,
    connectionString,
    folder,
    blobs,
    filesOf,
    standalone: async (name, spec) => {
      const file = join(folder, `${name}.json`);
      const object = {
        apiVersion: "fhirexport.dev/v1alpha1",
        kind: "FhirExport",
        metadata: { name },
        spec: { ...spec, sourceRef: { name: "source" }, targetRef: { name: "target" } },
      };
      writeFileSync(file, JSON.stringify(object));
      const container = `standalone-${name}`;
      const process = node.spawn(
        [
          ...[
            "node",
            "bin/fhir-export.mjs",
            "standalone",
            "--source",
            sourceURL,
            "--target",
            "azure",
            "--container",
            container,
          ],
          ...[
            "--azure-connection-string",
            join(folder, "connection-string.txt"),
            "--data",
            join(folder, `${name}.data`),
            "--port",
            "0",
          ],
          ...["--shard-resources", String(shardResources), "--inline-resources", "0", "--apply", file],
        ],
        { cwd: root, name: container },
      );
      await until(
        `the export of a standalone (${name})`,
        async () => Object.keys(await blobs(container)).some((path) => path.endsWith("/manifest.json")),
        60_000,
      );
      await process.stop();
      return filesOf(container, "");
    },
    stop: async () => void (await Promise.all(spawned.map((one) => one.stop()))),
  };
}

/** A volume of the node's disk for a claim that several pods write to. */
export async function makeVolume(node: TestNode, namespace: string, claim: string): Promise<string> {
  const path = join(node.files, `volume-${namespace}-${claim}`);
  mkdirSync(path, { recursive: true });
  // what a provisioner does by fsGroup
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

/** Runs a script of the docs on the node, as whoever reads them would. What is special here: where the image comes from, and small shards.
 *  @param helm helm3 or helm4 */
export async function runScript(
  node: TestNode,
  site: Site,
  script: string,
  helm = "helm3",
  timeoutMs = 300_000,
): Promise<string> {
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
    timeoutMs,
    env: { FHIR_SERVER: site.source, ACCOUNT_URL: site.accountURL },
  });
  if (code !== 0) throw new Error(`${script}\nended with ${code}: ${stdout}${stderr}`);
  return stdout;
}
