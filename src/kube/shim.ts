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
import { locateFiles } from "../shim/target.ts";
import { openStore } from "../sink/open.ts";
import { KubeClient, pathOf, resources } from "./client.ts";
import { isNotFound, toKubeFailure } from "./error.ts";
import { KubeExports } from "./exports.ts";
import { Informer } from "./informer.ts";
import { KubeReplay } from "./replay.ts";

const shimUsage = `fhir-export shim: serves FHIR $export over HTTP; every kick-off makes a FhirExport

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

const stringFlag = { type: "string" } as const;
const shimFlags = {
  help: { type: "boolean", short: "h" },
  source: stringFlag,
  target: stringFlag,
  "public-url": stringFlag,
  namespace: stringFlag,
  config: stringFlag,
  "shutdown-seconds": { ...stringFlag, default: "30" },
  host: { ...stringFlag, default: "::" },
  port: { ...stringFlag, default: "8080" },
  tls: stringFlag,
  credentials: { ...stringFlag, default: "/run/fhir-export" },
  "volume-root": { ...stringFlag, default: defaultSettings.volumeRoot },
  kubeconfig: stringFlag,
} as const;

/** After a SIGTERM the pod is not ready any more. Services need this time to hear of it and to send no new
 *  connections; only then does the port close. */
const endpointsDelayMs = 5000;

/** The `shim` subcommand: runs until the signal aborts, then lets running downloads end.
 *  @throws terminal UnsupportedParameter, naming the flag that is wrong */
export async function runShim(args: string[], signal: AbortSignal): Promise<void> {
  const { values } = parseArgs({ args, options: shimFlags, strict: true });
  if (values.help) return void console.log(shimUsage);
  const { source, target, "public-url": publicURL } = values;
  if (!source || !target || !publicURL)
    throw terminal("UnsupportedParameter", "--source, --target and --public-url are required");
  if (!/^https?:\/\/[^/?#@ ]+(\/[^?# ]*)?$/.test(publicURL))
    throw terminal(
      "UnsupportedParameter",
      "--public-url must be an http or https URL without user, query and fragment",
    );
  const port = numberFlag("port", values.port, 65_535);
  const graceMs = numberFlag("shutdown-seconds", values["shutdown-seconds"], 86_400) * 1000;

  const log = makeLogger({ part: "shim" });
  const client = KubeClient.load(values.kubeconfig);
  const namespace = values.namespace ?? client.namespace;
  const certificate = values.tls === undefined ? undefined : readCertificate(values.tls);
  const shim = await openShim(
    client,
    {
      source,
      target,
      publicURL,
      namespace,
      volumeRoot: values["volume-root"],
      credentials: values.credentials,
      configFile: values.config,
      ...(certificate && { certificate }),
    },
    signal,
    log,
  );
  const unfollow =
    certificate && followCertificate(values.tls!, certificate, shim.app.server as unknown as Server, log);
  try {
    await shim.app.listen({ host: values.host, port });
    log.info({ namespace, publicURL }, "started");
    if (!signal.aborted) await once(signal, "abort");
    log.info("stopping");
    await new Promise((resolve) => setTimeout(resolve, endpointsDelayMs));
    await drain(shim.app, graceMs);
  } finally {
    unfollow?.();
    await shim.close();
    await client.close();
  }
}

/** What one shim serves, from its flags. */
interface Served {
  /** Names of the FhirSource and the ExportTarget. */
  source: string;
  target: string;
  /** The FHIR base URL as clients see it. */
  publicURL: string;
  /** Of the FhirExports, the source and the target. */
  namespace: string;
  /** Folder where the target's volume is mounted. */
  volumeRoot: string;
  /** Folder with the target's credentials. */
  credentials: string;
  /** The settings file; undefined: all defaults. */
  configFile: string | undefined;
  /** Absent: plain HTTP. */
  certificate?: Certificate;
}

/** The app over a namespace of a cluster, not listening yet.
 *  @param signal once it aborts, the app says that it is not ready */
export async function openShim(client: KubeClient, served: Served, signal: AbortSignal, log: Logger) {
  const { source, target, publicURL, namespace, configFile } = served;
  const informer: Informer<FhirExport> = new Informer(client, {
    path: pathOf(resources.fhirExports, { namespace }),
    onKey: (key) => exports.seen(key),
    onError: (error) => log.warn({ error: String(error) }, "the watch of FhirExports broke; it is started again"),
  });
  const exports = new KubeExports(
    client,
    namespace,
    (key) => informer.get(key),
    () => informer.list(),
  );
  const service = await openService({ publicURL, file: configFile, replay: new KubeReplay(client, namespace), log });
  const app = buildShim({
    ...service.deps,
    exports,
    config: { publicURL, source, target, version: pkg.version },
    catalog: new Catalog(
      {
        source: () => readObject<FhirSource>(client, resources.fhirSources, namespace, source),
        target: () => readObject<ExportTarget>(client, resources.exportTargets, namespace, target),
        types: publicTypes,
      },
      () => performance.now(),
    ),
    openStore: async ({ spec, ...object }) => {
      const found = await readObject<ExportTarget>(client, resources.exportTargets, namespace, spec.targetRef.name);
      if (!found)
        throw waiting("TargetUnreachable", "the ExportTarget of the export does not exist any more; create it again");
      return openStore(locateFiles({ spec, ...object }, found, served.volumeRoot), served.credentials);
    },
    ready: () => informer.synced() && !signal.aborted,
    now: () => new Date(),
    random: (bytes) => randomBytes(bytes),
    log,
    ...(served.certificate && { certificate: served.certificate }),
  });
  // not the caller's signal: the watch must outlast it while the last answers are given
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

function numberFlag(name: string, value: string, maximum: number): number {
  if (!/^\d{1,6}$/.test(value) || Number(value) > maximum)
    throw terminal("UnsupportedParameter", `--${name} must be a whole number from 0 to ${maximum}`);
  return Number(value);
}

/** An object as the API server has it; undefined when there is none.
 *  @throws FailureError when the API server does not answer, or refuses */
async function readObject<Kind>(
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
