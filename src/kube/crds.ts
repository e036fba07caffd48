import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { parse } from "yaml";
import type { Condition } from "../api/meta.ts";
import { group } from "../api/names.ts";
import { terminal, waiting } from "../failure.ts";
import { type Logger, makeLogger } from "../log.ts";
import { KubeClient, type KubeObject, pathOf, resources } from "./client.ts";
import { isNotFound, KubeError, toKubeFailure } from "./error.ts";
import { pause } from "./pause.ts";

const crdsUsage = `fhir-export crds COMMAND: the CustomResourceDefinitions of this version

  print                     prints them as YAML, for kubectl apply --server-side --force-conflicts -f -
  apply                     applies them (server-side apply); one that the cluster has of a newer version stays as it is
    --kubeconfig FILE       default: KUBECONFIG, ~/.kube/config, the pod's service account
    --timeout-seconds N     how long to wait for the API server to answer and to serve them. Default: 60
`;

/** The version of fhir-export that a CRD came with. */
export const versionAnnotation = `${group}/version`;

export interface CRD extends KubeObject {
  status?: { conditions?: Condition[] };
}

/** The folder crds/ is beside src/; in the image it is beside lib/. */
const folder = fileURLToPath(new URL("../../crds/", import.meta.url));
const crdFiles = () =>
  readdirSync(folder)
    .filter((name) => name.endsWith(".yaml"))
    .sort()
    .map((name) => readFileSync(`${folder}${name}`, "utf8"));

/** The `crds` subcommand. */
export async function runCRDs(args: string[], signal: AbortSignal): Promise<void> {
  const text = { type: "string" } as const;
  const options = {
    help: { type: "boolean", short: "h" },
    kubeconfig: text,
    "timeout-seconds": { ...text, default: "60" },
  } as const;
  const { values, positionals } = parseArgs({ args, options, strict: true, allowPositionals: true });
  if (values.help) return void console.log(crdsUsage);
  const [command] = positionals;
  if (positionals.length !== 1 || (command !== "print" && command !== "apply"))
    throw terminal("UnsupportedParameter", "crds needs exactly one command: print or apply");
  if (command === "print") return void process.stdout.write(crdFiles().join("---\n"));
  const seconds = values["timeout-seconds"];
  if (!/^\d{1,5}$/.test(seconds))
    throw terminal("UnsupportedParameter", "--timeout-seconds must be a whole number from 0 to 99999");
  const client = KubeClient.load(values.kubeconfig);
  try {
    const deadline = AbortSignal.any([signal, AbortSignal.timeout(Number(seconds) * 1000)]);
    for (const file of crdFiles()) await applyCRD(client, parse(file) as CRD, deadline, makeLogger({ part: "crds" }));
  } finally {
    await client.close();
  }
}

/** Applies a CRD (server-side apply) and waits until the API server serves it. A CRD that the cluster has of a newer
 *  version is left alone: an older operator beside a newer one must not remove fields, and with them what objects hold
 *  in these fields. While the API server does not answer, or answers 5xx or 429, each call is repeated every second.
 *  @param signal ends the waiting
 *  @throws terminal when the API server refuses the CRD; waiting when the signal aborts first */
export async function applyCRD(client: KubeClient, crd: CRD, signal: AbortSignal, log: Logger): Promise<void> {
  const { name } = crd.metadata;
  const path = pathOf(resources.crds, { name });
  const stored = await patiently(signal, () => readCRD(client, path, signal));
  const [ours, theirs] = [crdVersionOf(crd), crdVersionOf(stored)];
  if (isNewer(theirs, ours))
    return log.warn(
      { crd: name, ours, theirs },
      "the cluster's CustomResourceDefinition is newer than ours; it stays as it is",
    );
  await patiently(signal, () => client.apply(path, crd, "fhir-export-crds", { signal }));
  const isServed = async () =>
    (await readCRD(client, path, signal))?.status?.conditions?.some(
      ({ type, status }) => type === "Established" && status === "True",
    );
  while (!(await patiently(signal, isServed))) await pause(200, signal);
  log.info({ crd: name, version: ours, before: theirs }, "applied the CustomResourceDefinition");
}

const crdVersionOf = (crd: CRD | undefined) => crd?.metadata.annotations?.[versionAnnotation];

/** Whether version `one` is newer than `other`, as semantic versions without their build. A version that is absent or
 *  malformed is the oldest. */
export function isNewer(one: string | undefined, other: string | undefined): boolean {
  const [left, right] = [versionParts(one), versionParts(other)];
  if (!left || !right) return left !== undefined && right === undefined;
  for (const [index, part] of left.numbers.entries())
    if (part !== right.numbers[index]) return part > right.numbers[index]!;
  if (left.pre === right.pre) return false;
  // 1.0.0 is newer than 1.0.0-rc.1.
  if (left.pre === "" || right.pre === "") return left.pre === "";
  return left.pre.localeCompare(right.pre, "en", { numeric: true }) > 0;
}

function versionParts(version: string | undefined): { numbers: number[]; pre: string } | undefined {
  const match = /^v?(\d+)\.(\d+)\.(\d+)(?:-([0-9A-Za-z.-]+))?(?:\+.*)?$/.exec(version ?? "");
  return match ? { numbers: match.slice(1, 4).map(Number), pre: match[4] ?? "" } : undefined;
}

async function readCRD(client: KubeClient, path: string, signal: AbortSignal): Promise<CRD | undefined> {
  try {
    return await client.get<CRD>(path, { signal });
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  }
}

/** Repeats a call every second while the API server does not answer it, or answers 5xx or 429. */
async function patiently<Result>(signal: AbortSignal, call: () => Promise<Result>): Promise<Result> {
  for (;;) {
    if (signal.aborted)
      throw waiting(
        "Internal",
        "the API server did not accept and serve the CustomResourceDefinitions in time; check that it is up, or raise --timeout-seconds",
      );
    try {
      return await call();
    } catch (error) {
      if (signal.aborted) continue;
      if (!(error instanceof KubeError)) throw error;
      if (error.status !== 0 && error.status < 500 && error.status !== 429) throw toKubeFailure(error);
      await pause(1000, signal);
    }
  }
}
