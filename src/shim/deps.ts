import type { FhirExport } from "../api/fhirexport.gen.ts";
import type { Logger } from "../log.ts";
import type { Store } from "../sink/store.ts";
import type { Authority } from "./auth/authority.ts";
import type { Catalog } from "./catalog.ts";
import type { Certificate } from "./certificate.ts";
import type { ShimSettings } from "./settings.ts";
import type { ExportStore } from "./store.ts";

/** What never changes while the app runs. */
export interface ShimConfig {
  /** The FHIR base as clients see it; it may have a path. */
  publicURL: string;
  /** Name of the one FhirSource that this service exports from. */
  source: string;
  /** Name of the one ExportTarget that this service writes to. */
  target: string;
  version: string;
}

/** All that the app needs from the place where it runs: a cluster, one machine, or a test. */
export interface ShimDeps {
  exports: ExportStore;
  config: ShimConfig;
  /** The settings as they are now: their file is read again when it changes. */
  settings: () => ShimSettings;
  /** Who may use the service; undefined: everybody. */
  authority: () => Authority | undefined;
  catalog: Pick<Catalog, "get">;
  /** Opens the storage that holds the files of a complete export, for reading. */
  openStore: (object: FhirExport) => Promise<Store>;
  ready: () => boolean;
  now: () => Date;
  random: (bytes: number) => Uint8Array;
  log: Logger;
  /** Absent: plain HTTP. */
  certificate?: Certificate;
}
