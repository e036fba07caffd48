import { randomBytes } from "node:crypto";
import { once } from "node:events";
import type { Server } from "node:tls";
import { parseArgs } from "node:util";
import pkg from "../../package.json" with { type: "json" };
import type { ExportTarget } from "../api/exporttarget.gen.ts";
import type { FhirExport } from "../api/fhirexport.gen.ts";
import type { FhirSource } from "../api/fhirsource.gen.ts";
import { terminal, waiting } from "../failure.ts";
import { publicTypes } from "../fhir/stated.ts";
import { type Logger, makeLogger } from "../log.ts";
import { defaultSettings } from "../operator/settings.ts";
import { buildShim } from "../shim/app.ts";
import { Catalog } from "../shim/catalog.ts";
import { type Certificate, followCertificate, readCertificate } from "../shim/certificate.ts";
import { drain } from "../shim/drain.ts";
import { openService } from "../shim/service.ts";
import { locate } from "../shim/target.ts";
import { openStore } from "../sink/open.ts";
import { KubeClient, pathOf, resources } from "./client.ts";
import { isNotFound, toKubeFailure } from "./error.ts";
import { KubeExports } from "./exports.ts";
import { Informer } from "./informer.ts";
import { KubeReplay } from "./replay.ts";

const usage = `fhir-export shim: serves FHIR $export over HTTP; every kick-off makes a FhirExport

  --source NAME        FhirSource to export from (required)
  --target NAME        ExportTarget to write to (required)
  --public-url URL     FHIR base URL as clients see it (required)
  --namespace NAME     of the FhirExports, the source and the target. Default: that of the pod or kubeconfig
  --config FILE        YAML: what the service allows, and who may use it (docs/http.md); read again when it changes
  --host ADDRESS       to listen on. Default: ::
  --port N             default: 8080
  --tls DIR            holds tls.crt and tls.key: serves HTTPS; they are read again when they change. Default: plain HTTP
  --credentials DIR    holds target/connection-string or target/sas-token, for downloads. Default: /run/fhir-export
  --volume-root DIR    where the target's volume is mounted, for downloads. Default: ${defaultSettings.volumeRoot}
  --shutdown-seconds N time for running downloads to end after a SIGTERM. Default: 30
  --kubeconfig FILE    default: KUBECONFIG, ~/.kube/config, the pod's service account
`;

const text = { type: "string" } as const;
const options = {
  help: { type: "boolean", short: "h" },
  source: text,
  target: text,
  "public-url": text,
  namespace: text,
  config: text,
  "shutdown-seconds": { ...text, default: "30" },
  host: { ...text, default: "::" },
  port: { ...text, default: "8080" },
  tls: text,
  credentials: { ...text, default: "/run/fhir-export" },
  "volume-root": { ...text, default: defaultSettings.volumeRoot },
  kubeconfig: text,
} as const;

/** time for endpoints to hear that we are not ready any more, before downloads are waited for */
const drainMs = 5000;

/** The `shim` subcommand: runs until the signal aborts. */
export async function runShim(args: string[], signal: AbortSignal): Promise<void> {
  const { values } = parseArgs({ args, options, strict: true });
  if (values.help) return void console.log(usage);
  const { source, target, "public-url": publicURL } = values;
  if (!source || !target || !publicURL)
    throw terminal("UnsupportedParameter", "--source, --target and --public-url are required");
  if (!/^https?:\/\/[^/?#@ ]+(\/[^?# ]*)?$/.test(publicURL))
    throw terminal(
      "UnsupportedParameter",
      "--public-url must be an http or https URL without user, query and fragment",
    );
  const port = whole("port", values.port, 65_535);
  const graceMs = whole("shutdown-seconds", values["shutdown-seconds"], 86_400) * 1000;

  const log = makeLogger({ part: "shim" });
  const client = KubeClient.load(values.kubeconfig);
  const namespace = values.namespace ?? client.namespace;
  const served = {
    source,
    target,
    publicURL,
    namespace,
    volumeRoot: values["volume-root"],
    credentials: values.credentials,
  };
  const certificate = values.tls === undefined ? undefined : readCertificate(values.tls);
  const shim = await openShim(client, { ...served, ...(certificate && { certificate }) }, values.config, signal, log);
  const unfollow =
    certificate && followCertificate(values.tls!, certificate, shim.app.server as unknown as Server, log);
  try {
    await shim.app.listen({ host: values.host, port });
    log.info({ namespace, publicURL }, "started");
    if (!signal.aborted) await once(signal, "abort");
    log.info("stopping");
    await new Promise((resolve) => setTimeout(resolve, drainMs));
    await drain(shim.app, graceMs);
  } finally {
    unfollow?.();
    await shim.close();
    await client.close();
  }
}

interface Served {
  source: string;
  target: string;
  publicURL: string;
  namespace: string;
  volumeRoot: string;
  credentials: string;
  certificate?: Certificate;
}

/** The app over a namespace of a cluster, not listening yet.
 *  @param config file of the settings */
export async function openShim(
  client: KubeClient,
  served: Served,
  config: string | undefined,
  signal: AbortSignal,
  log: Logger,
) {
  const { source, target, publicURL, namespace } = served;
  const informer: Informer<FhirExport> = new Informer(client, {
    path: pathOf(resources.fhirExports, { namespace }),
    onKey: (key) => exports.seen(key),
    onError: (error) => log.warn({ error: String(error) }, "watch broke; trying again"),
  });
  const exports = new KubeExports(
    client,
    namespace,
    (key) => informer.get(key),
    () => informer.list(),
  );
  const service = await openService({ publicURL, file: config, replay: new KubeReplay(client, namespace), log });
  const app = buildShim({
    ...service.deps,
    exports,
    config: { publicURL, source, target, version: pkg.version },
    catalog: new Catalog(
      {
        source: () => read<FhirSource>(client, resources.fhirSources, namespace, source),
        target: () => read<ExportTarget>(client, resources.exportTargets, namespace, target),
        types: publicTypes,
      },
      () => performance.now(),
    ),
    openStore: async ({ spec, ...object }) => {
      const found = await read<ExportTarget>(client, resources.exportTargets, namespace, spec.targetRef.name);
      if (!found) throw waiting("TargetUnreachable", "the ExportTarget is gone");
      return openStore(locate({ spec, ...object }, found, served.volumeRoot), served.credentials);
    },
    ready: () => informer.synced() && !signal.aborted,
    now: () => new Date(),
    random: (bytes) => randomBytes(bytes),
    log,
    ...(served.certificate && { certificate: served.certificate }),
  });
  // it goes on while the last answers are given
  const watching = new AbortController();
  const running = informer.run(watching.signal);
  return {
    app,
    close: async () => {
      watching.abort();
      service.close();
      await running;
    },
  };
}

function whole(name: string, value: string, most: number): number {
  if (!/^\d{1,6}$/.test(value) || Number(value) > most)
    throw terminal("UnsupportedParameter", `--${name} must be a whole number from 0 to ${most}`);
  return Number(value);
}

async function read<Kind>(
  client: KubeClient,
  resource: Parameters<typeof pathOf>[0],
  namespace: string,
  name: string,
): Promise<Kind | undefined> {
  try {
    return (await client.get(pathOf(resource, { namespace, name }))) as Kind;
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw toKubeFailure(error);
  }
}
