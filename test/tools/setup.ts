import { readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parse } from "yaml";
import { KubeClient, type KubeObject, pathOf, resources } from "../../src/kube/client.ts";
import { isNotFound } from "../../src/kube/error.ts";
import { type Azurite, sharedVariable, startAzurite } from "./azurite.ts";
import { buildControlPlane } from "./build.ts";
import { type ControlPlane, startControlPlane } from "./control-plane.ts";
import { ensureImage, imageName, saveImage } from "./image.ts";
import { nodeMissing } from "./node/missing.ts";
import { startNode, type TestNode } from "./node/node.ts";
import { buildNodePrograms } from "./node/programs.ts";
import { watchTestProcesses } from "./watchdog.ts";

let plane: ControlPlane | undefined;
let node: TestNode | undefined;
let azurite: Azurite | undefined;

/** One control plane, one Azure emulator and one node for the whole run (their start costs as much as many tests), when
 *  run.ts says that a file needs it. Test processes get them by their environment, which they inherit from this one:
 *  see namespace.ts and node/shared.ts. */
export async function globalSetup(): Promise<void> {
  watchTestProcesses();
  if (process.env.FHIR_EXPORT_TEST_NODE === "1") await share("node", setUpNode);
  const planeIsWanted = process.env.FHIR_EXPORT_TEST_PLANE === "1" && process.env.FHIR_EXPORT_TEST_TIER !== "T0";
  await Promise.all([
    planeIsWanted && share("control plane", setUpPlane),
    process.env[sharedVariable] === "1" && setUpAzurite(),
  ]);
}

async function setUpAzurite(): Promise<void> {
  delete process.env[sharedVariable];
  azurite = await startAzurite();
  process.env[sharedVariable] = JSON.stringify(azurite);
}

/** Without it tests are skipped, in CI it is an error. */
async function share(what: "control plane" | "node", start: () => Promise<void>): Promise<void> {
  try {
    await start();
  } catch (error) {
    await (what === "node" ? stopNode() : stopPlane());
    if (process.env.CI === "true") throw error;
    const { message } = error as Error;
    console.error(`!! tests that need a ${what} are skipped: ${message}`);
    process.env[what === "node" ? "FHIR_EXPORT_TEST_NODE" : "FHIR_EXPORT_TEST_PLANE"] = message.split("\n")[0]!;
  }
}

const say = (line: string) => {
  if (!/are (there|in)\b/.test(line)) console.error(`!! ${line}`);
};
const secondsSince = (start: number) => ((Date.now() - start) / 1000).toFixed(1);

async function setUpPlane(): Promise<void> {
  const programs = await buildControlPlane(say);
  const start = Date.now();
  plane = await startControlPlane(programs, { controllers: true });
  await applyCRDs(plane.kubeconfig);
  console.error(`control plane ready in ${secondsSince(start)} s`);
  process.env.KUBECONFIG = plane.kubeconfig;
  process.env.FHIR_EXPORT_TEST_USERS = JSON.stringify(plane.users);
  process.env.FHIR_EXPORT_TEST_KUBECTL = programs.kubectl;
}

async function setUpNode(): Promise<void> {
  const missing = nodeMissing();
  if (missing) throw new Error(missing);
  const programs = await buildNodePrograms(say);
  let start = Date.now();
  ensureImage();
  console.error(`image there in ${secondsSince(start)} s`);
  start = Date.now();
  // another run on this machine may take some minutes
  const patienceMs = 600_000;
  const logs = process.env.FHIR_EXPORT_TEST_LOGS;
  node = await startNode(programs, { patienceMs, ...(logs ? { logs } : {}) });
  console.error(`node ready in ${secondsSince(start)} s`);
  start = Date.now();
  const file = join(node.files, "image.tar");
  saveImage(imageName, file);
  await node.importImage(file);
  rmSync(file);
  console.error(`image imported in ${secondsSince(start)} s`);
}

export async function globalTeardown(): Promise<void> {
  await Promise.all([stopPlane(), azurite?.close()]);
  azurite = undefined;
  await stopNode();
}

async function stopPlane(): Promise<void> {
  await plane?.stop();
  plane = undefined;
}

async function stopNode(): Promise<void> {
  const stopped = node;
  node = undefined;
  try {
    await stopped?.stop();
  } catch (error) {
    // the runner ends with code 1 for it, and says nothing
    console.error(`!! ${(error as Error).message}`);
    throw error;
  }
}

/** Applies crds/*.yaml and waits until their objects can be made. */
export async function applyCRDs(kubeconfig: string): Promise<void> {
  const folder = fileURLToPath(new URL("../../crds/", import.meta.url));
  const client = KubeClient.load(kubeconfig);
  try {
    const files = readdirSync(folder).filter((name) => name.endsWith(".yaml"));
    const crds: (KubeObject & { spec: { group: string; names: { plural: string }; versions: { name: string }[] } })[] =
      files.map((file) => parse(readFileSync(`${folder}${file}`, "utf8")));
    await Promise.all(
      crds.map(async (crd) => {
        await client.apply(pathOf(resources.crds, { name: crd.metadata.name }), crd, "test");
        const { group, names, versions } = crd.spec;
        const path = pathOf({ api: `/apis/${group}/${versions[0]!.name}`, plural: names.plural });
        // 0.3 to 0.6 s; the Established condition comes a moment before the path answers
        for (const deadline = Date.now() + 20_000; ; await sleep(20)) {
          try {
            await client.list(path);
            return;
          } catch (error) {
            if (!isNotFound(error) || Date.now() > deadline) throw error;
          }
        }
      }),
    );
  } finally {
    await client.close();
  }
}
