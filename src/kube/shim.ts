import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { parseArgs } from "node:util";
import pkg from "../../package.json" with { type: "json" };
import type { ExportTarget } from "../api/exporttarget.gen.ts";
import type { FhirExport } from "../api/fhirexport.gen.ts";
import { terminal } from "../failure.ts";
import { makeLogger } from "../log.ts";
import { defaultSettings } from "../operator/settings.ts";
import { buildShim } from "../shim/app.ts";
import { locate } from "../shim/target.ts";
import { openStore } from "../sink/open.ts";
import { KubeClient, pathOf, resources, toKubeFailure } from "./client.ts";
import { KubeExports } from "./exports.ts";
import { Informer } from "./informer.ts";

const usage = `fhir-export shim: serves FHIR $export over HTTP; every kick-off makes a FhirExport

  --source NAME        FhirSource to export from (required)
  --target NAME        ExportTarget to write to (required)
  --public-url URL     FHIR base URL as clients see it (required)
  --namespace NAME     of the FhirExports, the source and the target. Default: that of the pod or kubeconfig
  --host ADDRESS       to listen on. Default: ::
  --port N             default: 8080
  --credentials DIR    holds target/connection-string or target/sas-token, for downloads. Default: /run/fhir-export
  --volume-root DIR    where the target's volume is mounted, for downloads. Default: ${defaultSettings.volumeRoot}
  --kubeconfig FILE    default: KUBECONFIG, ~/.kube/config, the pod's service account
`;

const text = { type: "string" } as const;
const options = {
  help: { type: "boolean", short: "h" },
  source: text,
  target: text,
  "public-url": text,
  namespace: text,
  host: { ...text, default: "::" },
  port: { ...text, default: "8080" },
  credentials: { ...text, default: "/run/fhir-export" },
  "volume-root": { ...text, default: defaultSettings.volumeRoot },
  kubeconfig: text,
} as const;

/** time for endpoints to hear that we are not ready any more, and then for downloads to end */
const drainMs = 5000;
const graceMs = 20_000;

/** The `shim` subcommand: runs until the signal aborts. */
export async function runShim(args: string[], signal: AbortSignal): Promise<void> {
  const { values } = parseArgs({ args, options, strict: true });
  if (values.help) return void console.log(usage);
  const { source, target, "public-url": publicURL } = values;
  if (!source || !target || !publicURL) throw terminal("UnsupportedParameter", "--source, --target and --public-url are required");
  if (!/^https?:\/\/[^/?#@ ]+(\/[^?# ]*)?$/.test(publicURL))
    throw terminal("UnsupportedParameter", "--public-url must be an http or https URL without user, query and fragment");
  if (!/^\d{1,5}$/.test(values.port) || Number(values.port) > 65_535)
    throw terminal("UnsupportedParameter", "--port must be a whole number from 0 to 65535");

  const log = makeLogger({ part: "shim" });
  const client = KubeClient.load(values.kubeconfig);
  const namespace = values.namespace ?? client.namespace;
  const informer: Informer<FhirExport> = new Informer(client, {
    path: pathOf(resources.fhirExports, { namespace }),
    onKey: (key) => exports.seen(key),
    onError: (error) => log.warn({ error: String(error) }, "watch broke; trying again"),
  });
  const exports = new KubeExports(client, namespace, (key) => informer.get(key));
  const app = buildShim({
    exports,
    config: { publicURL, source, target, version: pkg.version },
    openStore: async (object) =>
      openStore(locate(object, await readTarget(client, namespace, object.spec.targetRef.name), values["volume-root"]), values.credentials),
    ready: () => informer.synced() && !signal.aborted,
    now: () => new Date(),
    random: (bytes) => randomBytes(bytes),
    log,
  });

  // it goes on while the last answers are given
  const watching = new AbortController();
  const running = informer.run(watching.signal);
  try {
    await app.listen({ host: values.host, port: Number(values.port) });
    log.info({ namespace, publicURL }, "started");
    if (!signal.aborted) await once(signal, "abort");
    log.info("stopping");
    await new Promise((resolve) => setTimeout(resolve, drainMs));
    const cut = setTimeout(() => app.server.closeAllConnections(), graceMs);
    await app.close();
    clearTimeout(cut);
  } finally {
    watching.abort();
    await running;
    await client.close();
  }
}

async function readTarget(client: KubeClient, namespace: string, name: string): Promise<ExportTarget> {
  try {
    return await client.get<ExportTarget>(pathOf(resources.exportTargets, { namespace, name }));
  } catch (error) {
    throw toKubeFailure(error);
  }
}
