import { readFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import type { DatabaseSync } from "node:sqlite";
import { fileURLToPath } from "node:url";
import { parse } from "yaml";
import type { FhirExport } from "../api/fhirexport.gen.ts";
import { objectKey } from "../api/names.ts";
import { type Crd, createValidator } from "../api/validate.ts";
import { FailureError, toFailure } from "../failure.ts";
import { type Logger, stackFrames } from "../log.ts";
import { nodeFlags } from "../node-flags.ts";
import { WorkQueue } from "../operator/queue.ts";
import { createReconcile } from "../operator/reconcile.ts";
import { defaultSettings, type Settings } from "../operator/settings.ts";
import { checkSource, checkTarget } from "../operator/validity.ts";
import { SourceUses, type Wake, wokenBy } from "../operator/wakes.ts";
import { openDatabase } from "./database.ts";
import { Folders } from "./folders.ts";
import { Objects } from "./objects.ts";
import { LocalPort } from "./port.ts";
import { Runs, type RunsOptions } from "./runs.ts";

interface PlaceOptions {
  /** folder for the state of this standalone */
  data: string;
  /** folder that stands for the volumes of targets */
  volumeRoot: string;
  settings?: Partial<Settings>;
  runs?: Partial<Pick<RunsOptions, "worker" | "graceMs" | "backoffMs">>;
  log: Logger;
}

export interface Place {
  database: DatabaseSync;
  objects: Objects;
  folders: Folders;
  runs: Runs;
  /** starts to work on all objects and runs that exist */
  start(): void;
  /** stops the workers and waits for them; the next place on the same data continues their work */
  close(): Promise<void>;
}

// In the image (build/bundle.ts) this code is in a chunk beside the program, main.mjs.
const program = new URL(import.meta.url.endsWith(".ts") ? "../main.ts" : "main.mjs", import.meta.url);
const worker = [process.execPath, ...nodeFlags, fileURLToPath(program), "worker"];

/** One machine as a place for exports: the controller over objects in SQLite and child processes, without HTTP. Nothing
 *  runs before start(). docs/internals/controller.md compares it with Kubernetes ("Two places, one controller").
 *  @throws terminal when another process has the data folder open */
export async function openPlace({ data, volumeRoot, settings, runs: runsOptions, log }: PlaceOptions): Promise<Place> {
  const database = openDatabase(data);
  const objects = new Objects(database, createValidator(readCRDs()));
  const folders = new Folders(data);
  await mkdir(volumeRoot, { recursive: true });
  const runs = new Runs({ worker, ...runsOptions, database, log, changed: (name) => queue.add(name) });
  const port = new LocalPort(objects, runs, folders, log);
  // A status write costs little here, and people watch the progress.
  const reconcile = createReconcile(port, { ...defaultSettings, progressSeconds: 1, ...settings, volumeRoot });
  const queue: WorkQueue = new WorkQueue(reconcile, {
    workers: 4,
    onError: (key, error) => logFailure(log, key, error),
  });
  const collect = () =>
    void port.collect().catch((error) => {
      log.error(
        toFailure(error),
        "the runs and folders of deleted exports could not be removed; this is tried again at the next start",
      );
    });

  const uses = new SourceUses();
  objects.onChange((kind, object, gone) => {
    const { name } = object.metadata;
    const key = objectKey(object.metadata);
    if (kind === "FhirExport") {
      queue.add(name);
      if (gone) collect();
      wake(uses.note(key, gone ? undefined : (object as FhirExport)));
    } else {
      if (!gone) setReady(objects, kind, name);
      wake({ kind: kind === "FhirSource" ? "source" : "target", key });
    }
  });
  const wake = (change: Wake) => {
    for (const { metadata } of wokenBy(change, objects.list("FhirExport"), settings?.maxExports))
      queue.add(metadata.name);
  };

  return {
    database,
    objects,
    folders,
    runs,
    start: () => {
      for (const kind of ["FhirSource", "ExportTarget"] as const)
        for (const { metadata } of objects.list(kind)) setReady(objects, kind, metadata.name);
      runs.recover();
      for (const object of objects.list("FhirExport")) {
        uses.note(objectKey(object.metadata), object);
        queue.add(object.metadata.name);
      }
      collect();
      queue.start();
    },
    close: async () => {
      await queue.close();
      await runs.close();
      database.close();
    },
  };
}

function logFailure(log: Logger, name: string, error: unknown): void {
  const failure = toFailure(error);
  // A conflict is everyday life: the object was changed meanwhile, and the next try sees the change.
  if (failure.class === "transient" && error instanceof FailureError) return;
  log.error(
    { export: name, ...failure, stack: stackFrames(error) },
    "an export could not be reconciled; it is tried again",
  );
}

/** Writes the Ready condition of a source or target, which follows from its own fields. */
function setReady(objects: Objects, kind: "FhirSource" | "ExportTarget", name: string): void {
  const now = new Date();
  if (kind === "FhirSource") {
    const source = objects.get(kind, name);
    if (source) objects.updateStatus(kind, source, checkSource(source, now));
  } else {
    const target = objects.get(kind, name);
    if (target) objects.updateStatus(kind, target, checkTarget(target, now));
  }
}

function readCRDs(): Crd[] {
  return ["fhirexports", "fhirsources", "exporttargets"].map((name) =>
    parse(readFileSync(new URL(`../../crds/${name}.yaml`, import.meta.url), "utf8")),
  );
}
