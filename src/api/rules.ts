// The same rules as those in CEL in crds/*.yaml, for places without an API server (standalone). test/api holds both to
// one table of objects and to the same messages.

import { isTrue } from "./conditions.ts";
import type { ExportTarget } from "./exporttarget.gen.ts";
import type { FhirExport, FhirExportSpec } from "./fhirexport.gen.ts";
import type { FhirSource } from "./fhirsource.gen.ts";
import { parseBytes } from "./quantity.ts";

export interface Rule<Kind> {
  /** the field at which the object breaks the rule */
  path: string;
  message: string;
  /** @param old the object that is replaced; undefined where it is created */
  holds(self: Kind, old: Kind | undefined): boolean;
}

const immutable = [
  "sourceRef",
  "targetRef",
  "level",
  "groupId",
  "patients",
  "types",
  "typeFilters",
  "elements",
  "since",
  "until",
  "outputFormat",
  "container",
  "output",
  "onResourceError",
  "queueName",
  "startDeadlineSeconds",
  "activeDeadlineSeconds",
  "origin",
] as const satisfies (keyof FhirExportSpec)[];

const proxyPattern = /^https?:\/\/[^/?#@ ]+\/?$/;
/** Headers that auth sets, or that say how a message is sent. */
const reservedHeaders = [
  "authorization",
  "host",
  "connection",
  "keep-alive",
  "content-length",
  "content-type",
  "transfer-encoding",
  "te",
  "trailer",
  "upgrade",
  "expect",
  "accept",
  "accept-encoding",
  "range",
  "if-none-match",
  "if-modified-since",
];
const baseURLPattern = /^https?:\/\/[^/?#@ ]+(\/[^?# ]*)?$/;
const tokenURLPattern = /^https?:\/\/[^/?#@ ]+(\/[^# ]*)?$/;
const containerPattern = /^[a-z0-9](-?[a-z0-9])*$/;
const allowedContainerPattern = /^[a-z0-9*-]+$/;

/** A condition that is True stays True; Failed only until the next attempt. */
const sticky =
  (type: "Complete" | "Cancelled" | "Failed") =>
  (self: FhirExport, old: FhirExport | undefined): boolean =>
    !isTrue(old?.status?.conditions, type) ||
    isTrue(self.status?.conditions, type) ||
    (type === "Failed" && (self.status?.attempt ?? 0) > (old?.status?.attempt ?? 0));

export const exportRules: Rule<FhirExport>[] = [
  {
    path: "metadata.name",
    message: "metadata.name must be a DNS label: at most 63 lower-case letters, digits and hyphens, no dots",
    holds: ({ metadata: { name } }) => name.length <= 63 && /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/.test(name),
  },
  {
    path: "spec",
    message: "groupId must be given when level is Group, and only then",
    holds: ({ spec }) => (spec.level === "Group") === (spec.groupId !== undefined),
  },
  {
    path: "spec",
    message: "patients can be given at level Patient or Group only",
    holds: ({ spec }) => !spec.patients || (spec.level ?? "System") !== "System",
  },
  {
    path: "spec",
    message: "since must be before until",
    holds: ({ spec }) => !spec.since || !spec.until || Date.parse(spec.since) < Date.parse(spec.until),
  },
  {
    path: "spec",
    message: "each of typeFilters must have the form Type?query, for example Observation?category=laboratory",
    holds: ({ spec }) => (spec.typeFilters ?? []).every((filter) => /^[A-Z][A-Za-z]+[?][^?]/.test(filter)),
  },
  {
    path: "spec",
    message: "each of typeFilters must be of a type that types lists",
    holds: ({ spec: { types, typeFilters } }) =>
      !types || (typeFilters ?? []).every((filter) => types.some((type) => filter.startsWith(`${type}?`))),
  },
  {
    path: "spec",
    message:
      "container must be 3 to 63 lower-case letters, digits and single hyphens, and begin and end with a letter or digit",
    holds: ({ spec }) => spec.container === undefined || containerPattern.test(spec.container),
  },
  {
    path: "spec",
    message: "cancel cannot be taken back; make another FhirExport",
    holds: ({ spec }, old) => !old?.spec.cancel || spec.cancel === true,
  },
  {
    path: "spec",
    message: "retry can only grow",
    holds: ({ spec }, old) =>
      old?.spec.retry === undefined || (spec.retry !== undefined && spec.retry >= old.spec.retry),
  },
  ...immutable.map(
    (field): Rule<FhirExport> => ({
      path: "spec",
      message: `${field} cannot be changed; make another FhirExport`,
      holds: ({ spec }, old) => !old || same(spec[field], old.spec[field]),
    }),
  ),
  {
    path: "spec.output",
    message: "maxFileSize must be a whole number of bytes from 64Ki to 1Ti, for example 512Mi",
    holds: ({ spec }) => within(spec.output?.maxFileSize, 2 ** 16, 2 ** 40),
  },
  { path: "status", message: "a complete export stays complete", holds: sticky("Complete") },
  { path: "status", message: "a cancelled export stays cancelled", holds: sticky("Cancelled") },
  { path: "status", message: "a failed export stays failed until its next attempt", holds: sticky("Failed") },
];

export const sourceRules: Rule<FhirSource>[] = [
  {
    path: "spec",
    message:
      "baseURL must be an http or https URL without user, query and fragment, for example https://fhir.example.org/r4",
    holds: ({ spec }) => baseURLPattern.test(spec.baseURL),
  },
  {
    path: "spec.auth",
    message: "auth must have exactly one of none, basic, bearer, oauth2, smart and workloadIdentity",
    holds: ({ spec: { auth } }) =>
      !auth ||
      [auth.none, auth.basic, auth.bearer, auth.oauth2, auth.smart, auth.workloadIdentity].filter(
        (one) => one !== undefined,
      ).length === 1,
  },
  {
    path: "spec.auth",
    message: "tokenURL must be an http or https URL without user and fragment",
    holds: ({ spec: { auth } }) =>
      [auth?.oauth2?.tokenURL, auth?.smart?.tokenURL].every((url) => url === undefined || tokenURLPattern.test(url)),
  },
  {
    path: "spec.headers",
    message: "headers: each name may come once",
    holds: ({ spec: { headers = [] } }) =>
      new Set(headers.map(({ name }) => name.toLowerCase())).size === headers.length,
  },
  {
    path: "spec.headers",
    message:
      "headers: sign-in is set by auth, and how messages are sent is not yours to set; remove headers such as Authorization, Host, Accept and Content-Length",
    holds: ({ spec: { headers } }) => !headers?.some(({ name }) => reservedHeaders.includes(name.toLowerCase())),
  },
  {
    path: "spec.headers",
    message: "headers: each must have exactly one of value and secretRef",
    holds: ({ spec: { headers } }) =>
      headers?.every(({ value, secretRef }) => (value === undefined) !== (secretRef === undefined)) ?? true,
  },
  {
    path: "spec.proxy",
    message:
      "proxy.url must be an http or https URL without user, path, query and fragment, for example http://proxy.example.org:3128",
    holds: ({ spec: { proxy } }) => !proxy || proxyPattern.test(proxy.url),
  },
  {
    path: "spec.limits",
    message: "limits.concurrentRequests must be at least maxConcurrentExports, since each export needs one",
    holds: ({ spec: { limits } }) => (limits?.concurrentRequests ?? Infinity) >= (limits?.maxConcurrentExports ?? 0),
  },
  {
    path: "spec.limits",
    message: "limits.requestsPerSecond must be at least maxConcurrentExports, since each export needs one",
    holds: ({ spec: { limits } }) => (limits?.requestsPerSecond ?? Infinity) >= (limits?.maxConcurrentExports ?? 0),
  },
];

export const targetRules: Rule<ExportTarget>[] = [
  {
    path: "spec",
    message: "exactly one of azureBlob and volume must be set",
    holds: ({ spec }) => (spec.azureBlob === undefined) !== (spec.volume === undefined),
  },
  {
    path: "spec.azureBlob",
    message:
      "accountURL must be an http or https URL without user, query and fragment, for example https://account.blob.core.windows.net",
    holds: ({ spec: { azureBlob } }) => !azureBlob || baseURLPattern.test(azureBlob.accountURL),
  },
  {
    path: "spec.azureBlob",
    message:
      "container must be 3 to 63 lower-case letters, digits and single hyphens, and begin and end with a letter or digit",
    holds: ({ spec: { azureBlob } }) =>
      azureBlob?.container === undefined || containerPattern.test(azureBlob.container),
  },
  {
    path: "spec.azureBlob",
    message: "prefix must be a relative folder without empty, . and .. parts, for example fhir/exports",
    holds: ({ spec: { azureBlob } }) =>
      azureBlob?.prefix?.split("/").every((part) => !["", ".", ".."].includes(part)) ?? true,
  },
  {
    path: "spec.azureBlob",
    message: "allowedContainers must be container names, in which * stands for any characters, for example export-*",
    holds: ({ spec: { azureBlob } }) =>
      azureBlob?.allowedContainers?.every((one) => allowedContainerPattern.test(one)) ?? true,
  },
  {
    path: "spec.azureBlob",
    message: "blockSize must be a whole number of bytes from 64Ki to 256Mi, for example 8Mi",
    holds: ({ spec: { azureBlob } }) => within(azureBlob?.blockSize, 2 ** 16, 2 ** 28),
  },
  {
    path: "spec.azureBlob.auth",
    message: "auth must have exactly one of workloadIdentity, sasRef and connectionStringRef",
    holds: ({ spec: { azureBlob } }) => {
      if (!azureBlob) return true;
      const { workloadIdentity, sasRef, connectionStringRef } = azureBlob.auth;
      return [workloadIdentity, sasRef, connectionStringRef].filter((one) => one !== undefined).length === 1;
    },
  },
  {
    path: "spec.volume",
    message: "path must not have . or .. parts",
    holds: ({ spec: { volume } }) => volume?.path?.split("/").every((part) => ![".", ".."].includes(part)) ?? true,
  },
  {
    path: "spec.volume",
    message: "allowedContainers must be folder names, in which * stands for any characters, for example export-*",
    holds: ({ spec: { volume } }) =>
      volume?.allowedContainers?.every((one) => allowedContainerPattern.test(one)) ?? true,
  },
];

/** Whether a quantity, if there is one, is a number of bytes from `least` to `most`. */
function within(quantity: string | undefined, least: number, most: number): boolean {
  if (quantity === undefined) return true;
  const bytes = parseBytes(quantity);
  return bytes !== undefined && bytes >= least && bytes <= most;
}

/** Whether two JSON values are equal, whatever the order of their members is. A member that is undefined counts as
 *  absent. */
export function same(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (
    typeof a !== "object" ||
    typeof b !== "object" ||
    a === null ||
    b === null ||
    Array.isArray(a) !== Array.isArray(b)
  )
    return false;
  const [one, two] = [a as Record<string, unknown>, b as Record<string, unknown>];
  const keys = (object: Record<string, unknown>) => Object.keys(object).filter((key) => object[key] !== undefined);
  return keys(one).length === keys(two).length && keys(one).every((key) => same(one[key], two[key]));
}
