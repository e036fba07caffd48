import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { parse } from "yaml";
import type { Condition } from "../api/meta.ts";
import { group } from "../api/names.ts";
import { terminal, waiting } from "../failure.ts";
import { type Logger, makeLogger } from "../log.ts";
import { KubeClient, type KubeObject, pathOf, resources } from "./client.ts";
import { isNotFound, KubeError, toKubeFailure } from "./error.ts";

const usage = `fhir-export crds COMMAND: the CustomResourceDefinitions of this version

  print                     as YAML, for kubectl apply --server-side --force-conflicts -f -
  apply                     server-side apply; one of a newer version stays as it is
    --kubeconfig FILE       default: KUBECONFIG, ~/.kube/config, the pod's service account
    --timeout-seconds N     for the API server to answer, and to serve them. Default: 60
`;

/** The version of fhir-export that a CRD came with. */
export const versionAnnotation = `${group}/version`;

export interface CRD extends KubeObject {
  status?: { conditions?: Condition[] };
}

/** crds/ beside src/, and beside lib/ in the image */
const folder = fileURLToPath(new URL("../../crds/", import.meta.url));
const files = () =>
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
  if (values.help) return void console.log(usage);
  const [command] = positionals;
  if (positionals.length !== 1 || (command !== "print" && command !== "apply"))
    throw terminal("UnsupportedParameter", "crds wants one command: print or apply");
  if (command === "print") return void process.stdout.write(files().join("---\n"));
  const seconds = values["timeout-seconds"];
  if (!/^\d{1,5}$/.test(seconds)) throw terminal("UnsupportedParameter", "--timeout-seconds must be a whole number");
  const client = KubeClient.load(values.kubeconfig);
  try {
    const deadline = AbortSignal.any([signal, AbortSignal.timeout(Number(seconds) * 1000)]);
    for (const file of files()) await applyCRD(client, parse(file) as CRD, deadline, makeLogger({ part: "crds" }));
  } finally {
    await client.close();
  }
}

/** Server-side apply of a CRD, unless the cluster has it of a newer version: an older operator beside a newer one must not take its fields away, and with them what
 *  objects hold there. Waits until it is served; an API server that does not answer, or answers 5xx, is asked again until the signal aborts.
 *  @throws terminal when the API server refuses; waiting when the time is over */
export async function applyCRD(client: KubeClient, crd: CRD, signal: AbortSignal, log: Logger): Promise<void> {
  const { name } = crd.metadata;
  const path = pathOf(resources.crds, { name });
  const there = await patiently(signal, () => readCRD(client, path, signal));
  const [ours, theirs] = [versionOf(crd), versionOf(there)];
  if (isNewer(theirs, ours)) return log.warn({ crd: name, ours, theirs }, "the cluster's is newer; it stays as it is");
  await patiently(signal, () => client.apply(path, crd, "fhir-export-crds", { signal }));
  const isServed = async () =>
    (await readCRD(client, path, signal))?.status?.conditions?.some(
      ({ type, status }) => type === "Established" && status === "True",
    );
  while (!(await patiently(signal, isServed))) await sleep(200, undefined, { signal }).catch(() => {});
  log.info({ crd: name, version: ours, before: theirs }, "applied");
}

const versionOf = (crd: CRD | undefined) => crd?.metadata.annotations?.[versionAnnotation];

/** Whether version `one` is newer than `other`, as semantic versions without their build. One that is absent, or is none, is the oldest. */
export function isNewer(one: string | undefined, other: string | undefined): boolean {
  const [left, right] = [partsOf(one), partsOf(other)];
  if (!left || !right) return left !== undefined && right === undefined;
  for (const [index, part] of left.numbers.entries())
    if (part !== right.numbers[index]) return part > right.numbers[index]!;
  if (left.pre === right.pre) return false;
  // 1.0.0 comes after 1.0.0-rc.1
  if (left.pre === "" || right.pre === "") return left.pre === "";
  return left.pre.localeCompare(right.pre, "en", { numeric: true }) > 0;
}

function partsOf(version: string | undefined): { numbers: number[]; pre: string } | undefined {
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

/** Repeats what the API server did not answer, or could not. */
async function patiently<Result>(signal: AbortSignal, call: () => Promise<Result>): Promise<Result> {
  for (;;) {
    if (signal.aborted) throw waiting("Internal", "the API server did not take the CustomResourceDefinitions in time");
    try {
      return await call();
    } catch (error) {
      if (signal.aborted) continue;
      if (!(error instanceof KubeError)) throw error;
      if (error.status !== 0 && error.status < 500 && error.status !== 429) throw toKubeFailure(error);
      await sleep(1000, undefined, { signal }).catch(() => {});
    }
  }
}
