import type { ExportStore } from "../shim/store.ts";
import type { Objects } from "./objects.ts";

/** The exports of a standalone, for the HTTP service. */
export function localExports(objects: Objects): ExportStore {
  return {
    create: async (object) => objects.create("FhirExport", object),
    list: () => objects.list("FhirExport"),
    get: async (name) => objects.get("FhirExport", name),
    cancel: async (name) => {
      objects.update("FhirExport", name, (object) => {
        object.spec.cancel = true;
      });
    },
  };
}
