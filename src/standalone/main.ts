import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:net";
import pkg from "../../package.json" with { type: "json" };
import { terminal, waiting } from "../failure.ts";
import { publicTypes } from "../fhir/stated.ts";
import { type Logger, makeLogger } from "../log.ts";
import { buildShim } from "../shim/app.ts";
import { Catalog } from "../shim/catalog.ts";
import { drain } from "../shim/drain.ts";
import { openService, type Service } from "../shim/service.ts";
import { locateFiles } from "../shim/target.ts";
import { openStore } from "../sink/open.ts";
import { applyExport, putSourceAndTarget, readExports } from "./apply.ts";
import { parseArguments, standaloneUsage } from "./arguments.ts";
import { openPlace, type Place } from "./place.ts";
import { LocalReplay } from "./replay.ts";
import { localExports } from "./store.ts";

/** how long running downloads may take to end after a SIGTERM */
const graceMs = 30_000;

/** The `standalone` subcommand: HTTP service, controller and workers on one machine, until the signal aborts. */
export async function runStandalone(args: string[], signal: AbortSignal): Promise<void> {
  const given = parseArguments(args);
  if (given.help) return void console.log(standaloneUsage);
  const log = makeLogger({ command: "standalone" });
  const volumeRoot = given.target.kind === "folder" ? given.target.folder : given.data;
  const place = await openPlace({
    data: given.data,
    volumeRoot,
    settings: {
      ...(given.shardResources !== undefined && { shardResources: given.shardResources }),
      ...(given.inlineResources !== undefined && { inlineResources: given.inlineResources }),
      ...(given.retrySeconds !== undefined && { retrySeconds: given.retrySeconds }),
    },
    log,
  });
  try {
    putSourceAndTarget(place, given, process.env);
    for (const object of given.apply === undefined ? [] : readExports(given.apply)) applyExport(place.objects, object);
    const port = given.port === 0 ? await freePort(given.host) : given.port;
    const publicURL = given.publicURL ?? `http://${given.host.includes(":") ? `[${given.host}]` : given.host}:${port}`;
    const service = await openService({ publicURL, file: given.config, replay: new LocalReplay(place.database), log });
    const app = buildLocalShim(place, { publicURL, volumeRoot, service: service.deps }, signal, log);
    await app
      .listen({ host: given.host, port })
      .catch((error) => Promise.reject(cannotListen(error, given.host, port)));
    place.start();
    log.info({ publicURL, data: given.data }, "ready");
    if (!signal.aborted) await once(signal, "abort");
    log.info("stopping");
    await drain(app, graceMs);
    service.close();
  } finally {
    await place.close();
  }
}

interface LocalService {
  publicURL: string;
  /** where the volume of the target is */
  volumeRoot: string;
  service: Service["deps"];
}

/** The HTTP service over the objects of a place, not listening yet. */
function buildLocalShim(
  place: Place,
  { publicURL, volumeRoot, service }: LocalService,
  signal: AbortSignal,
  log: Logger,
) {
  return buildShim({
    ...service,
    catalog: new Catalog(
      {
        source: async () => place.objects.get("FhirSource", "source"),
        target: async () => place.objects.get("ExportTarget", "target"),
        types: publicTypes,
      },
      () => performance.now(),
    ),
    exports: localExports(place.objects),
    config: { publicURL, source: "source", target: "target", version: pkg.version },
    openStore: async (object) => {
      const found = place.objects.get("ExportTarget", object.spec.targetRef.name);
      if (!found) throw waiting("TargetUnreachable", `the ExportTarget ${object.spec.targetRef.name} does not exist`);
      // openStore reads target/connection-string. The Secret of the target is named "target", so it is found in the
      // folder of all Secrets.
      return openStore(locateFiles(object, found, volumeRoot), place.folders.secrets);
    },
    ready: () => !signal.aborted,
    now: () => new Date(),
    random: (bytes) => randomBytes(bytes),
    log,
  });
}

/** A free port. It is chosen here, and not by listening on port 0, as the public URL must be known before the app is
 *  made. */
async function freePort(host: string): Promise<number> {
  const server = createServer();
  server.listen(0, host);
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, "close");
  return port;
}

function cannotListen(error: NodeJS.ErrnoException, host: string, port: number): Error {
  return terminal(
    "UnsupportedParameter",
    `cannot listen on ${host} port ${port} (${error.code}); choose another address by --host and --port`,
  );
}
