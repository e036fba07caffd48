import { readFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import type { DatabaseSync } from "node:sqlite";
import { fileURLToPath } from "node:url";
import { parse } from "yaml";
import type { FhirExport } from "../api/fhirexport.gen.ts";
import { objectKey } from "../api/names.ts";
import { type Crd, createValidator } from "../api/validate.ts";
import { nodeFlags } from "../contracts.ts";
import { FailureError, toFailure } from "../failure.ts";
import { type Logger, stackFrames } from "../log.ts";
import { WorkQueue } from "../operator/queue.ts";
import { createReconcile } from "../operator/reconcile.ts";
import { defaultSettings, type Settings } from "../operator/settings.ts";
import { checkSource, checkTarget } from "../operator/validity.ts";
import { Claims, type Wake, wokenBy } from "../operator/wakes.ts";
import { openDatabase } from "./database.ts";
import { Folders } from "./folders.ts";
import { Objects } from "./objects.ts";
import { LocalPort } from "./port.ts";
import { Runs, type RunsOptions } from "./runs.ts";

export interface PlaceOptions {
  /** state of this standalone */
  data: string;
  /** where the volumes of targets are */
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
  /** starts to work on what is there */
  start(): void;
  /** stops workers and waits for them; the next place on the same data goes on */
  close(): Promise<void>;
}

// where it is bundled (build/bundle.ts), all chunks lie beside the program
const program = new URL(import.meta.url.endsWith(".ts") ? "../main.ts" : "main.mjs", import.meta.url);
const worker = [process.execPath, ...nodeFlags, fileURLToPath(program), "worker"];

/** One machine as a place for exports: the controller over SQLite objects and child processes, without HTTP (DESIGN section 10). */
export async function openPlace({ data, volumeRoot, settings, runs: how, log }: PlaceOptions): Promise<Place> {
  const database = openDatabase(data);
  const objects = new Objects(database, createValidator(readCRDs()));
  const folders = new Folders(data);
  await mkdir(volumeRoot, { recursive: true });
  const runs = new Runs({ worker, ...how, database, log, changed: (name) => queue.add(name) });
  const port = new LocalPort(objects, runs, folders, log);
  // a status write costs little here, and a watching person sees progress
  const reconcile = createReconcile(port, { ...defaultSettings, progressSeconds: 1, ...settings, volumeRoot });
  const queue: WorkQueue = new WorkQueue(reconcile, {
    workers: 4,
    onError: (key, error) => logFailure(log, key, error),
  });
  const collect = () =>
    void port.collect().catch((error) => {
      log.error(toFailure(error), "collecting what was left behind failed");
    });

  const claims = new Claims();
  objects.onChange((kind, object, gone) => {
    const { name } = object.metadata;
    const key = objectKey(object.metadata);
    if (kind === "FhirExport") {
      queue.add(name);
      if (gone) collect();
      wake(claims.note(key, gone ? undefined : (object as FhirExport)));
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
        claims.note(objectKey(object.metadata), object);
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
  // a conflict is everyday life: someone else was faster
  if (failure.class === "transient" && error instanceof FailureError) return;
  log.error({ export: name, ...failure, stack: stackFrames(error) }, "reconcile failed");
}

/** Sets Ready of a source or target by its own validity. */
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
