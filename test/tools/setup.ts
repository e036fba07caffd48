import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parse } from "yaml";
import { isNotFound, KubeClient, type KubeObject, pathOf, resources } from "../../src/kube/client.ts";
import { buildControlPlane } from "./build.ts";
import { type ControlPlane, startControlPlane } from "./control-plane.ts";

let plane: ControlPlane | undefined;

/** One control plane for the whole run (its start costs as much as many tests), when run.ts says that a file needs it. Test processes get it
 *  by their environment, which they inherit from this one: see namespace.ts. */
export async function globalSetup(): Promise<void> {
  if (process.env.FHIR_EXPORT_TEST_PLANE !== "1" || process.env.FHIR_EXPORT_TEST_TIER === "T0") return;
  try {
    const programs = await buildControlPlane((line) => {
      if (!line.endsWith("are there")) console.error(`!! ${line}`);
    });
    const start = Date.now();
    plane = await startControlPlane(programs, { controllers: true });
    await applyCRDs(plane.kubeconfig);
    console.error(`control plane ready in ${((Date.now() - start) / 1000).toFixed(1)} s`);
    process.env.KUBECONFIG = plane.kubeconfig;
    process.env.FHIR_EXPORT_TEST_USERS = JSON.stringify(plane.users);
    process.env.FHIR_EXPORT_TEST_KUBECTL = programs.kubectl;
  } catch (error) {
    await globalTeardown();
    if (process.env.CI === "true") throw error;
    const { message } = error as Error;
    console.error(`!! tests that need a control plane are skipped: ${message}`);
    process.env.FHIR_EXPORT_TEST_PLANE = message.split("\n")[0]!;
  }
}

export async function globalTeardown(): Promise<void> {
  await plane?.stop();
  plane = undefined;
}

/** Applies crds/*.yaml and waits until their objects can be made. */
export async function applyCRDs(kubeconfig: string): Promise<void> {
  const folder = fileURLToPath(new URL("../../crds/", import.meta.url));
  const client = KubeClient.load(kubeconfig);
  try {
    const files = readdirSync(folder).filter((name) => name.endsWith(".yaml"));
    const crds: (KubeObject & { spec: { group: string; names: { plural: string }; versions: { name: string }[] } })[] = files.map((file) =>
      parse(readFileSync(`${folder}${file}`, "utf8")),
    );
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
