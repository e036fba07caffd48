import { readFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { parse } from "yaml";
import { type Crd, createValidator } from "../api/validate.ts";
import type { Logger } from "../log.ts";
import { createReconcile } from "../operator/reconcile.ts";
import { defaultSettings, type Settings } from "../operator/settings.ts";
import { checkSource, checkTarget } from "../operator/validity.ts";
import { openDatabase } from "./database.ts";
import { Folders } from "./folders.ts";
import { Loop } from "./loop.ts";
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
  objects: Objects;
  folders: Folders;
  runs: Runs;
  /** starts to work on what is there */
  start(): void;
  /** stops workers and waits for them; the next place on the same data goes on */
  close(): Promise<void>;
}

const worker = [process.execPath, fileURLToPath(new URL("../main.ts", import.meta.url)), "worker"];

/** One machine as a place for exports: the controller over SQLite objects and child processes, without HTTP (DESIGN section 10). */
export async function openPlace({ data, volumeRoot, settings, runs: how, log }: PlaceOptions): Promise<Place> {
  const database = openDatabase(data);
  const objects = new Objects(database, createValidator(readCRDs()));
  const folders = new Folders(data);
  await mkdir(volumeRoot, { recursive: true });
  const runs = new Runs({ worker, ...how, database, log, changed: (name) => loop.wake(name) });
  const port = new LocalPort(objects, runs, folders, log);
  // a status write costs little here, and a watching person sees progress
  const loop = new Loop(createReconcile(port, { ...defaultSettings, progressSeconds: 1, ...settings, volumeRoot }), log);

  objects.onChange((kind, object, gone) => {
    if (kind === "FhirExport") {
      loop.wake(object.metadata.name);
      if (gone) void port.collect().catch((error) => log.error({ stack: error.stack }, "collecting failed"));
    } else {
      if (!gone) judge(objects, kind, object.metadata.name);
      wakeAll();
    }
  });
  const wakeAll = () => {
    for (const { metadata } of objects.list("FhirExport")) loop.wake(metadata.name);
  };

  return {
    objects,
    folders,
    runs,
    start: () => {
      for (const kind of ["FhirSource", "ExportTarget"] as const)
        for (const { metadata } of objects.list(kind)) judge(objects, kind, metadata.name);
      runs.recover();
      wakeAll();
      void port.collect();
    },
    close: async () => {
      await loop.close();
      await runs.close();
      database.close();
    },
  };
}

/** Sets Ready of a source or target by its own validity. */
function judge(objects: Objects, kind: "FhirSource" | "ExportTarget", name: string): void {
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
