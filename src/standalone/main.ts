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
import { locate } from "../shim/target.ts";
import { openStore } from "../sink/open.ts";
import { applyExport, putSourceAndTarget, readExports } from "./apply.ts";
import { type Arguments, parseArguments, usage } from "./arguments.ts";
import { openPlace, type Place } from "./place.ts";
import { LocalReplay } from "./replay.ts";
import { localExports } from "./store.ts";

/** how long downloads may go on after a SIGTERM */
const graceMs = 30_000;

/** Shim, controller and workers on one machine, until `signal`. */
export async function runStandalone(args: string[], signal: AbortSignal): Promise<void> {
  const given = parseArguments(args);
  if (given.help) return void console.log(usage);
  const log = makeLogger({ command: "standalone" });
  const place = await openPlace({
    data: given.data,
    volumeRoot: "folder" in given.target ? given.target.folder : given.data,
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
    const app = shimOf(place, given, publicURL, service.deps, signal, log);
    await app
      .listen({ host: given.host, port })
      .catch((error) => Promise.reject(notListening(error, given.host, port)));
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

function shimOf(
  place: Place,
  { target }: Arguments,
  publicURL: string,
  service: Service["deps"],
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
      if (!found) throw waiting("TargetUnreachable", "the ExportTarget is gone");
      // the Secret of the target is named "target", so the folder of all Secrets is laid out as openStore wants it
      return openStore(locate(object, found, "folder" in target ? target.folder : ""), place.folders.secrets);
    },
    ready: () => !signal.aborted,
    now: () => new Date(),
    random: (bytes) => randomBytes(bytes),
    log,
  });
}

/** The public URL must be known before the app is made, so the port must, too. */
async function freePort(host: string): Promise<number> {
  const server = createServer();
  server.listen(0, host);
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, "close");
  return port;
}

function notListening(error: NodeJS.ErrnoException, host: string, port: number): Error {
  return terminal(
    "UnsupportedParameter",
    `cannot listen on ${host} port ${port} (${error.code}); choose another by --host and --port`,
  );
}
