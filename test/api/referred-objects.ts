// FhirSources and ExportTargets that are valid or not; see objects.ts.
import type { ExportTargetSpec } from "../../src/api/exporttarget.gen.ts";
import type { FhirSourceSpec } from "../../src/api/fhirsource.gen.ts";
import type { Case } from "./objects.ts";

const secretRef = { name: "x" };
const source = (what: string, spec: Record<string, unknown>, refused?: RegExp): Case => ({
  case: what,
  kind: "FhirSource",
  spec: { baseURL: "https://fhir.example.org/r4", ...spec },
  ...(refused ? { refused } : {}),
});
const headers = (count: number) => Array.from({ length: count }, (_, index) => ({ name: `X-${index}`, value: "a" }));

export const sources: Case[] = [
  source("the least", {}),
  source("all fields", {
    auth: { smart: { tokenURL: "https://a.example/token", clientID: "c", scope: "system/*.rs", secretRef } },
    tls: { caRef: { kind: "Secret", name: "ca" }, clientCertificateRef: { name: "worker-tls" } },
    paging: { count: 500, sort: "None" },
    settleSeconds: 5,
    limits: { maxConcurrentExports: 2, concurrentRequests: 16, requestsPerSecond: 100 },
    history: "None",
    headers: [
      { name: "X-Tenant", value: "seven 7" },
      { name: "Ocp-Apim-Subscription-Key", secretRef: { name: "gateway", key: "key" } },
    ],
    proxy: { url: "http://proxy.example.org:3128", secretRef },
    links: "Strict",
  } satisfies Omit<FhirSourceSpec, "baseURL">),
  ...(["none", "basic", "bearer", "oauth2", "smart", "workloadIdentity"] as const).map((kind) =>
    source(`auth ${kind}`, {
      auth: {
        [kind]: {
          none: {},
          basic: { secretRef },
          bearer: { secretRef },
          oauth2: { tokenURL: "https://a.example/token?tenant=1", clientID: "c", secretRef },
          smart: { clientID: "c", secretRef },
          workloadIdentity: { serviceAccountName: "sa", scope: "x/.default" },
        }[kind],
      },
    }),
  ),
  source("auth with nothing", { auth: {} }, /auth must have exactly one of/),
  source("two ways of auth", { auth: { none: {}, basic: { secretRef } } }, /auth must have exactly one of/),
  source(
    "a client certificate in another namespace",
    { tls: { clientCertificateRef: { name: "x", namespace: "y" } } },
    /namespace/,
  ),
  source("basic without secret", { auth: { basic: {} } }, /secretRef/),
  source(
    "a secret in another namespace",
    { auth: { basic: { secretRef: { name: "x", namespace: "y" } } } },
    /namespace/,
  ),
  source(
    "a token URL with a fragment",
    { auth: { oauth2: { tokenURL: "https://a.example/#t", clientID: "c", secretRef } } },
    /tokenURL must be/,
  ),
  source(
    "a SMART token URL that is none",
    { auth: { smart: { tokenURL: "token", clientID: "c", secretRef } } },
    /tokenURL must be/,
  ),
  source("a URL with a query", { baseURL: "https://h.example/fhir?a=b" }, /baseURL must be/),
  source("a URL with a user", { baseURL: "https://u:p@h.example/fhir" }, /baseURL must be/),
  source("another scheme", { baseURL: "file:///etc/passwd" }, /baseURL must be/),
  source("no URL", { baseURL: "fhir.example.org" }, /baseURL must be/),
  source("plain http", { baseURL: "http://127.0.0.1:8080/fhir" }),
  source("page of 0", { paging: { count: 0 } }, /count/),
  source("an unknown sort", { paging: { sort: "Random" } }, /sort/),
  source(
    "fewer requests than exports",
    { limits: { maxConcurrentExports: 4, concurrentRequests: 3 } },
    /concurrentRequests must be at least/,
  ),
  source(
    "a slower rate than exports",
    { limits: { maxConcurrentExports: 4, requestsPerSecond: 3 } },
    /requestsPerSecond must be at least/,
  ),
  source("exports 0", { limits: { maxConcurrentExports: 0 } }, /maxConcurrentExports/),
  source("settleSeconds below 0", { settleSeconds: -1 }, /settleSeconds/),
  source("a header of auth", { headers: [{ name: "authorization", value: "x" }] }, /sign-in is set by auth/),
  source("a header of the connection", { headers: [{ name: "HOST", value: "x" }] }, /sign-in is set by auth/),
  source("a header with nothing", { headers: [{ name: "X-Key" }] }, /exactly one of value and secretRef/),
  source(
    "a header with both",
    { headers: [{ name: "X-Key", value: "a", secretRef: { name: "x", key: "k" } }] },
    /exactly one of value and secretRef/,
  ),
  source(
    "a header twice",
    { headers: ["X-Key", "x-key"].map((name) => ({ name, value: "a" })) },
    /each name may come once/,
  ),
  source("a header with a colon", { headers: [{ name: "X-Key:", value: "a" }] }, /name/),
  source("a header with a line end", { headers: [{ name: "X-Key", value: "a\r\nb: c" }] }, /value/),
  source("a header of a Secret without key", { headers: [{ name: "X-Key", secretRef }] }, /key/),
  source("a proxy with a user", { proxy: { url: "http://u:p@proxy.example.org:3128" } }, /proxy\.url must be/),
  source("a proxy with a path", { proxy: { url: "http://proxy.example.org/a" } }, /proxy\.url must be/),
  source("a proxy of another kind", { proxy: { url: "socks5://proxy.example.org" } }, /proxy\.url must be/),
  source("a proxy without a host", { proxy: { url: "http://:3128/x" } }, /proxy\.url must be/),
  source("a proxy's secret without name", { proxy: { url: "http://proxy.example.org", secretRef: {} } }, /name/),
  source("a proxy without a secret, by https, with a slash", { proxy: { url: "https://proxy.example.org/" } }),
  source("as many headers as there may be", { headers: headers(16) }),
  source("one header more", { headers: headers(17) }, /headers/),
  source("a header of one character", { headers: [{ name: "x", value: "0" }] }),
  source("a header that begins with a space", { headers: [{ name: "X-Key", value: " a" }] }, /value/),
  source(
    "a header of a Secret by an impossible key",
    { headers: [{ name: "X-Key", secretRef: { name: "x", key: "a/b" } }] },
    /key/,
  ),
  source("links Auto", { links: "Auto" }),
  source("unknown links", { links: "None" }, /links/),
  source("an unknown history", { history: "Always" }, /history/),
];

const blob = { accountURL: "https://a.blob.core.windows.net", auth: { sasRef: secretRef } };
const target = (what: string, spec: Record<string, unknown>, refused?: RegExp): Case => ({
  case: what,
  kind: "ExportTarget",
  spec,
  ...(refused ? { refused } : {}),
});
export const targets: Case[] = [
  target("blob storage", { azureBlob: blob }),
  target("all fields of blob storage", {
    azureBlob: {
      ...blob,
      container: "fhir",
      prefix: "a/b",
      allowedContainers: ["fhir", "export-*"],
      blockSize: "64Ki",
    },
  } satisfies ExportTargetSpec),
  target("workload identity", { azureBlob: { ...blob, auth: { workloadIdentity: { serviceAccountName: "sa" } } } }),
  target("connection string", {
    azureBlob: {
      ...blob,
      accountURL: "http://127.0.0.1:10000/devstoreaccount1",
      auth: { connectionStringRef: secretRef },
    },
  }),
  target("a volume", { volume: { claimName: "c", path: "a/b", allowedContainers: ["*"] } }),
  target("neither", {}, /exactly one of azureBlob and volume/),
  target("both", { azureBlob: blob, volume: { claimName: "c" } }, /exactly one of azureBlob and volume/),
  target("no way of auth", { azureBlob: { ...blob, auth: {} } }, /auth must have exactly one of/),
  target(
    "two ways of auth",
    { azureBlob: { ...blob, auth: { sasRef: secretRef, connectionStringRef: secretRef } } },
    /auth must have exactly one of/,
  ),
  target(
    "a SAS in the URL",
    { azureBlob: { ...blob, accountURL: "https://a.blob.core.windows.net/?sv=1&sig=x" } },
    /accountURL must be/,
  ),
  target("an illegal container", { azureBlob: { ...blob, container: "$web" } }, /container must be 3 to 63/),
  target("a prefix that climbs", { azureBlob: { ...blob, prefix: "a/../b" } }, /prefix must be/),
  target("an absolute prefix", { azureBlob: { ...blob, prefix: "/a" } }, /prefix must be/),
  target("a pattern with a slash", { azureBlob: { ...blob, allowedContainers: ["a/*"] } }, /allowedContainers must be/),
  target("a block too great", { azureBlob: { ...blob, blockSize: "1Gi" } }, /blockSize must be/),
  target("a block without a number", { azureBlob: { ...blob, blockSize: "big" } }, /blockSize must be/),
  target("a volume path that climbs", { volume: { claimName: "c", path: "../other" } }, /path must not have/),
  target(
    "a volume pattern with a dot",
    { volume: { claimName: "c", allowedContainers: ["..*"] } },
    /allowedContainers must be/,
  ),
  target("a volume without claim", { volume: {} }, /claimName/),
];
