import type { ExportTarget } from "../api/exporttarget.gen.ts";
import type { FhirExport, FhirExportRun, FhirExportStatus } from "../api/fhirexport.gen.ts";
import type { FhirSource } from "../api/fhirsource.gen.ts";
import { outputOf } from "../api/names.ts";
import { parseBytes } from "../api/quantity.ts";
import type { Task } from "../contracts.ts";
import { withoutTrailingSlash } from "../url.ts";
import type { Settings } from "./settings.ts";
import { shareOf } from "./share.ts";

/** An export with the objects that it refers to. */
interface ResolvedExport {
  export: FhirExport;
  source: FhirSource;
  target: ExportTarget;
}

/** What an attempt is started with, and what the operator needs to know of it later (`status.run`). It holds names and
 *  numbers only, nothing of patients or filters. */
export function makeRun(
  { export: object, source, target }: ResolvedExport,
  { attempt, startTime }: Pick<FhirExportRun, "attempt" | "startTime">,
  settings: Settings,
): FhirExportRun {
  const { auth = { none: {} }, tls, limits, proxy } = source.spec;
  const headers = (source.spec.headers ?? []).flatMap(({ secretRef }, index) =>
    secretRef ? [{ index, ...secretRef }] : [],
  );
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
    ...(headers.length > 0 ? { sourceHeaders: headers } : {}),
    ...(proxy?.secretRef ? { sourceProxy: proxy.secretRef.name } : {}),
    ...(azureBlob ? { targetAuth: targetAuth(azureBlob.auth) } : {}),
    ...(targetSecret ? { targetSecret } : {}),
    ...(volume ? { claimName: volume.claimName } : {}),
    ...(object.spec.worker ? { worker: object.spec.worker } : {}),
  };
}

/** The Task of an attempt: everything that its workers are told. */
export function makeTask(resolved: ResolvedExport, run: FhirExportRun, settings: Settings): Task {
  const { export: object, source } = resolved;
  const { metadata, spec } = object;
  const { groupId, patients, types, typeFilters, elements, since, until, origin } = spec;
  return {
    v: 1,
    uid: metadata.uid ?? "",
    name: metadata.name,
    createdAt: toInstant(metadata.creationTimestamp ?? ""),
    attempt: run.attempt,
    ...(run.image ? { image: run.image } : {}),
    export: {
      level: spec.level ?? "System",
      ...(groupId === undefined ? {} : { groupId }),
      ...(patients ? { patients } : {}),
      ...(types ? { types } : {}),
      ...(typeFilters ? { typeFilters } : {}),
      ...(elements ? { elements } : {}),
      ...(since ? { since: toInstant(since) } : {}),
      ...(until ? { until: toInstant(until) } : {}),
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
      ...wireOf(source),
      share: run.share ?? { requests: 1 },
    },
    target: targetOf(resolved, settings),
    plan: {
      shardResources: settings.shardResources,
      inlineResources: settings.inlineResources,
      parallelism: run.parallelism,
    },
  };
}

/** Where the output goes, for the status. The manifest exists as soon as the export is complete. */
export function makeOutput({
  export: object,
  target,
}: Omit<ResolvedExport, "source">): NonNullable<FhirExportStatus["output"]> {
  const { container, folder } = outputOf(object.metadata, object.spec.container, target.spec);
  const { azureBlob, volume } = target.spec;
  const base = azureBlob ? `${withoutTrailingSlash(azureBlob.accountURL)}/${container}` : (volume?.path ?? "");
  return { ...(container ? { container } : {}), prefix: folder, manifest: joinPath(base, folder, "manifest.json") };
}

function targetOf({ export: object, target }: ResolvedExport, settings: Settings): Task["target"] {
  const { container = "", folder } = outputOf(object.metadata, object.spec.container, target.spec);
  const { azureBlob, volume } = target.spec;
  if (!azureBlob) return { folder, volume: { path: joinPath(settings.volumeRoot, volume?.path ?? "") } };
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

/** How requests reach the source, where that is not as usual. */
function wireOf({ spec: { links, headers, proxy } }: FhirSource): Pick<Task["source"], "links" | "headers" | "proxy"> {
  return {
    ...(links === "Strict" ? { links } : {}),
    ...(headers?.length ? { headers: headers.map(({ name, value }) => ({ name, ...(value ? { value } : {}) })) } : {}),
    ...(proxy
      ? { proxy: { url: withoutTrailingSlash(proxy.url), ...(proxy.secretRef ? { hasSignIn: true as const } : {}) } }
      : {}),
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

/** The `request` of the manifest for an export that no HTTP client has asked for: a URL that says the same. */
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

const toInstant = (text: string) => new Date(text || 0).toISOString();
/** A path of parts that are not empty. Slashes at their ends are removed, except one at the beginning of the whole. */
const joinPath = (...parts: string[]) =>
  parts
    .filter(Boolean)
    .map((part, index) => (index === 0 ? part.replace(/(?<=.)\/+$/, "") : part.replace(/^\/+|\/+$/g, "")))
    .filter(Boolean)
    .join("/");
