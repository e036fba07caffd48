import type { ExportTarget } from "../api/exporttarget.gen.ts";
import type { FhirExport, FhirExportRun, FhirExportStatus } from "../api/fhirexport.gen.ts";
import type { FhirSource } from "../api/fhirsource.gen.ts";
import { outputOf } from "../api/names.ts";
import { parseBytes } from "../api/quantity.ts";
import type { Task } from "../contracts.ts";
import { withoutTrailingSlash } from "../url.ts";
import type { Settings } from "./settings.ts";
import { shareOf } from "./share.ts";

/** What an attempt is started with and what the operator needs of it later: names and numbers only, nothing of patients or filters. */
export function makeRun(
  object: FhirExport,
  source: FhirSource,
  target: ExportTarget,
  attempt: number,
  startTime: string,
  settings: Settings,
): FhirExportRun {
  const { auth = { none: {} }, tls, limits } = source.spec;
  const { azureBlob, volume } = target.spec;
  const { parallelism, ...share } = shareOf(limits, object.spec.parallelism ?? 4);
  const sourceSecret = (auth.basic ?? auth.bearer ?? auth.oauth2 ?? auth.smart)?.secretRef.name;
  const targetSecret = (azureBlob?.auth.connectionStringRef ?? azureBlob?.auth.sasRef)?.name;
  const account = auth.workloadIdentity?.serviceAccountName ?? azureBlob?.auth.workloadIdentity?.serviceAccountName;
  return {
    attempt,
    startTime,
    parallelism,
    share,
    ...(settings.image ? { image: settings.image } : {}),
    ...(account ? { serviceAccountName: account } : {}),
    sourceAuth: sourceAuth(source),
    ...(sourceSecret ? { sourceSecret } : {}),
    ...(tls?.caRef ? { sourceCA: { kind: tls.caRef.kind ?? "ConfigMap", name: tls.caRef.name } } : {}),
    ...(tls?.clientCertificateRef ? { sourceCertificate: tls.clientCertificateRef.name } : {}),
    ...(azureBlob ? { targetAuth: targetAuth(azureBlob.auth) } : {}),
    ...(targetSecret ? { targetSecret } : {}),
    ...(volume ? { claimName: volume.claimName } : {}),
    ...(object.spec.worker ? { worker: object.spec.worker } : {}),
  };
}

/** The Task of an attempt: all that a worker gets to know. */
export function makeTask(
  object: FhirExport,
  source: FhirSource,
  target: ExportTarget,
  run: FhirExportRun,
  settings: Settings,
): Task {
  const { metadata, spec } = object;
  const { groupId, patients, types, typeFilters, elements, since, until, origin } = spec;
  return {
    v: 1,
    uid: metadata.uid ?? "",
    name: metadata.name,
    createdAt: instant(metadata.creationTimestamp ?? ""),
    attempt: run.attempt,
    ...(run.image ? { image: run.image } : {}),
    export: {
      level: spec.level ?? "System",
      ...(groupId === undefined ? {} : { groupId }),
      ...(patients ? { patients } : {}),
      ...(types ? { types } : {}),
      ...(typeFilters ? { typeFilters } : {}),
      ...(elements ? { elements } : {}),
      ...(since ? { since: instant(since) } : {}),
      ...(until ? { until: instant(until) } : {}),
      gzip: spec.output?.compression === "Gzip",
      maxFileBytes: parseBytes(spec.output?.maxFileSize ?? "1Gi") ?? 2 ** 30,
      onResourceError: spec.onResourceError ?? "Record",
      request: origin?.request ?? requestOf(object),
      ...(origin?.warnings ? { warnings: origin.warnings } : {}),
    },
    source: {
      baseURL: withoutTrailingSlash(source.spec.baseURL),
      auth: authOf(source),
      count: source.spec.paging?.count ?? 1000,
      settleSeconds: source.spec.settleSeconds ?? 0,
      history: (source.spec.history ?? "Auto") === "Auto",
      ...(source.spec.paging?.sort === "None" ? { sort: false } : {}),
      retrySeconds: settings.retrySeconds,
      share: run.share ?? { requests: 1 },
    },
    target: targetOf(object, target, settings),
    plan: {
      shardResources: settings.shardResources,
      inlineResources: settings.inlineResources,
      parallelism: run.parallelism,
    },
  };
}

/** Where the output goes, for the status. The manifest is there when the export is whole. */
export function makeOutput(object: FhirExport, target: ExportTarget): NonNullable<FhirExportStatus["output"]> {
  const { container, folder } = outputOf(object.metadata, object.spec.container, target.spec);
  const { azureBlob, volume } = target.spec;
  const base = azureBlob ? `${withoutTrailingSlash(azureBlob.accountURL)}/${container}` : (volume?.path ?? "");
  return { ...(container ? { container } : {}), prefix: folder, manifest: join(base, folder, "manifest.json") };
}

function targetOf(object: FhirExport, target: ExportTarget, settings: Settings): Task["target"] {
  const { container = "", folder } = outputOf(object.metadata, object.spec.container, target.spec);
  const { azureBlob, volume } = target.spec;
  if (!azureBlob) return { folder, volume: { path: join(settings.volumeRoot, volume?.path ?? "") } };
  return {
    folder,
    azureBlob: {
      accountURL: withoutTrailingSlash(azureBlob.accountURL),
      container,
      createContainer: true,
      blockBytes: parseBytes(azureBlob.blockSize ?? "8Mi") ?? 2 ** 23,
      auth: targetAuth(azureBlob.auth),
    },
  };
}

function authOf(source: FhirSource): Task["source"]["auth"] {
  const { oauth2, smart, workloadIdentity } = source.spec.auth ?? {};
  const { tokenURL, clientID, scope }: { tokenURL?: string; clientID?: string; scope?: string } =
    oauth2 ?? smart ?? workloadIdentity ?? {};
  return {
    kind: sourceAuth(source),
    ...(tokenURL ? { tokenURL } : {}),
    ...(clientID ? { clientID } : {}),
    ...(scope ? { scope } : {}),
  };
}

function sourceAuth({ spec: { auth = {} } }: FhirSource): Task["source"]["auth"]["kind"] {
  for (const kind of ["basic", "bearer", "oauth2", "smart", "workloadIdentity"] as const) if (auth[kind]) return kind;
  return "none";
}

const targetAuth = (auth: NonNullable<ExportTarget["spec"]["azureBlob"]>["auth"]) =>
  auth.workloadIdentity ? "workloadIdentity" : auth.sasRef ? "sas" : "connectionString";

/** The kick-off URL for an export that no HTTP client asked for: a manifest needs one. */
function requestOf({ metadata, spec }: FhirExport): string {
  const path = { System: "$export", Patient: "Patient/$export", Group: `Group/${spec.groupId}/$export` }[
    spec.level ?? "System"
  ];
  const query = new URLSearchParams();
  if (spec.types) query.set("_type", spec.types.join(","));
  for (const filter of spec.typeFilters ?? []) query.append("_typeFilter", filter);
  if (spec.elements) query.set("_elements", spec.elements.join(","));
  if (spec.since) query.set("_since", spec.since);
  if (spec.until) query.set("_until", spec.until);
  const text = query.toString();
  return `kubectl://${metadata.namespace ?? "default"}/fhirexports/${metadata.name}/${path}${text ? `?${text}` : ""}`;
}

const instant = (text: string) => new Date(text || 0).toISOString();
/** Parts of a path; only the first may begin with a slash. */
const join = (...parts: string[]) =>
  parts
    .filter(Boolean)
    .map((part, index) => (index === 0 ? part.replace(/(?<=.)\/+$/, "") : part.replace(/^\/+|\/+$/g, "")))
    .filter(Boolean)
    .join("/");
