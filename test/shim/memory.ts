// The HTTP service over objects and files in memory, for tests of what does not depend on where they are kept.
import { Readable } from "node:stream";
import type { FastifyInstance, LightMyRequestResponse } from "fastify";
import type { FhirExport } from "../../src/api/fhirexport.gen.ts";
import { type Logger, makeLogger } from "../../src/log.ts";
import { buildShim } from "../../src/shim/app.ts";
import type { Authority } from "../../src/shim/auth/authority.ts";
import type { Known } from "../../src/shim/catalog.ts";
import type { Certificate } from "../../src/shim/certificate.ts";
import type { ShimConfig } from "../../src/shim/deps.ts";
import { parseSettings } from "../../src/shim/settings.ts";
import type { ExportStore } from "../../src/shim/store.ts";
import type { Store } from "../../src/sink/store.ts";

export const name = "export-aaaaaaaaaaaaaaaaaaaaaaaaaa";
export const statusURL = `/_operations/export/${name}`;
export const headers = { accept: "application/fhir+json", prefer: "respond-async" };
export const condition = (type: string, status: "True" | "False", reason: string, message = "") => ({
  type,
  status,
  reason,
  message,
  lastTransitionTime: "2026-03-01T12:00:00Z",
});
const manifest = {
  transactionTime: "2026-03-01T11:59:59.999Z",
  request: "https://example.org/fhir/$export",
  requiresAccessToken: false,
  output: [
    {
      type: "Patient",
      path: "Patient-0001-1.ndjson",
      url: "file:///x/Patient-0001-1.ndjson",
      count: 1,
      fileSize: 36,
      sha256: "00",
    },
  ],
  deleted: [],
  error: [
    {
      type: "OperationOutcome",
      path: "errors/OperationOutcome-Patient-0001-1.ndjson",
      url: "file:///x/errors/…",
      count: 1,
      fileSize: 36,
      sha256: "01",
    },
  ],
};
export const files: Record<string, string> = {
  "manifest.json": JSON.stringify(manifest),
  "Patient-0001-1.ndjson": '{"resourceType":"Patient","id":"1"}\n',
  "errors/OperationOutcome-Patient-0001-1.ndjson": '{"resourceType":"OperationOutcome"}\n',
  "_work/plan.json": "{}",
};

export class MemoryStore implements ExportStore {
  readonly objects = new Map<string, FhirExport>();
  fails?: Error;
  async create(object: Parameters<ExportStore["create"]>[0]): Promise<FhirExport | undefined> {
    if (this.fails) throw this.fails;
    if (this.objects.has(object.metadata.name)) return undefined;
    const made = {
      metadata: { ...object.metadata, uid: "u", creationTimestamp: "2026-03-01T12:00:00Z" },
      spec: object.spec,
    };
    this.objects.set(object.metadata.name, made);
    return made;
  }
  list(): Iterable<FhirExport> {
    return this.objects.values();
  }
  async get(name: string): Promise<FhirExport | undefined> {
    if (this.fails) throw this.fails;
    return this.objects.get(name);
  }
  async cancel(name: string): Promise<void> {
    this.objects.get(name)!.spec.cancel = true;
  }
}

export interface Shim {
  app: FastifyInstance;
  store: MemoryStore;
  opened: { count: number; fails?: Error };
  get(url: string, headers?: Record<string, string>): Promise<LightMyRequestResponse>;
}

export interface ShimOptions {
  config?: Partial<ShimConfig>;
  /** The settings, as YAML. */
  settings?: string;
  known?: Known;
  authority?: Authority;
  now?: () => Date;
  random?: (bytes: number) => Uint8Array;
  log?: Logger;
  certificate?: Certificate;
}

export function shim({
  config,
  settings = "",
  known = {},
  authority,
  now,
  random,
  log,
  certificate,
}: ShimOptions = {}): Shim {
  const store = new MemoryStore();
  const opened: Shim["opened"] = { count: 0 };
  const app = buildShim({
    exports: store,
    config: { publicURL: "https://example.org/fhir", source: "hospital", target: "research", version: "0", ...config },
    openStore: async () => {
      opened.count += 1;
      if (opened.fails) throw opened.fails;
      const text = (path: string) => files[path];
      return {
        read: async (path: string) =>
          text(path) === undefined ? undefined : { bytes: Buffer.from(text(path)!), etag: "1" },
        stream: async (path: string) =>
          text(path) === undefined
            ? undefined
            : { body: Readable.from([Buffer.from(text(path)!)]), size: text(path)!.length, etag: `"e"` },
        close: async () => {},
      } as unknown as Store;
    },
    settings: () => parseSettings(settings),
    authority: () => authority,
    catalog: { get: async () => known },
    ready: () => true,
    now: now ?? (() => new Date("2026-03-01T12:00:01Z")),
    random: random ?? ((bytes) => new Uint8Array(bytes)),
    log: log ?? makeLogger({}, "silent"),
    ...(certificate && { certificate }),
  });
  return { app, store, opened, get: (url, headers = {}) => app.inject({ url, headers }) };
}
