import { readFileSync } from "node:fs";
import { parseAllDocuments } from "yaml";
import type { ExportTargetSpec } from "../api/exporttarget.gen.ts";
import type { FhirExport } from "../api/fhirexport.gen.ts";
import type { FhirSourceSpec } from "../api/fhirsource.gen.ts";
import { terminal } from "../failure.ts";
import { withoutTrailingSlash } from "../url.ts";
import type { StandaloneArguments } from "./arguments.ts";
import type { Folders } from "./folders.ts";
import type { Kind, Kinds, Objects } from "./objects.ts";
import type { Place } from "./place.ts";
import { proxyFor } from "./proxy-variables.ts";

/** Makes or changes the FhirSource "source" and the ExportTarget "target" as the command line says.
 *  @throws terminal, naming the argument, when one is invalid or a file is missing */
export function putSourceAndTarget(
  { objects, folders }: Pick<Place, "objects" | "folders">,
  given: StandaloneArguments,
  env: NodeJS.ProcessEnv,
): void {
  apply(objects, "FhirSource", "source", sourceSpec(given, folders, env));
  apply(objects, "ExportTarget", "target", targetSpec(given, folders, env));
}

/** Makes a FhirExport, or changes its spec if it exists, as `kubectl apply` does. @throws terminal when it is
 *  invalid */
export function applyExport(objects: Objects, { metadata, spec }: Pick<FhirExport, "metadata" | "spec">): FhirExport {
  return apply(objects, "FhirExport", metadata.name, spec);
}

function apply<K extends Kind>(objects: Objects, kind: K, name: string, spec: Kinds[K]["spec"]): Kinds[K] {
  const made = objects.create(kind, { metadata: { name }, spec });
  if (made) return made;
  return objects.update(kind, name, (object) => {
    object.spec = structuredClone(spec);
  });
}

/** The FhirExports of a YAML file. @throws terminal, saying what is wrong with the file */
export function readExports(file: string): FhirExport[] {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (cause) {
    throw terminal(
      "UnsupportedParameter",
      `the file ${file} of --apply cannot be read; check its path and permissions`,
      cause,
    );
  }
  return parseAllDocuments(text).flatMap((document) => {
    if (document.errors.length > 0)
      throw terminal("UnsupportedParameter", `${file} is not YAML: ${document.errors[0]!.message}`);
    const object = document.toJS() as FhirExport | null;
    if (object === null) return [];
    if (object.kind !== "FhirExport" || typeof object.metadata?.name !== "string")
      throw terminal(
        "UnsupportedParameter",
        `${file} may hold only FhirExports, each with metadata.name; give the source and target by --source and --target`,
      );
    return [object];
  });
}

function sourceSpec(
  { source, auth: { token, username, password }, headers, ca, pageSize }: StandaloneArguments,
  folders: Folders,
  env: NodeJS.ProcessEnv,
): FhirSourceSpec {
  const files: Record<string, string> = token ? { token } : username && password ? { username, password } : {};
  if (Object.keys(files).length > 0) folders.linkSecret("source", files);
  if (ca) folders.linkSecret("source-ca", { "ca.crt": ca });
  if (headers.length > 0)
    folders.linkSecret(
      "source-headers",
      Object.fromEntries(headers.map(({ file }, index) => [`header-${index}`, file])),
    );
  const proxy = proxyFor(source, env);
  if (proxy?.signIn) folders.writeSecret("source-proxy", proxy.signIn);
  const secretRef = { name: "source" };
  return {
    baseURL: source,
    auth: token ? { bearer: { secretRef } } : username ? { basic: { secretRef } } : { none: {} },
    ...(ca && { tls: { caRef: { kind: "Secret", name: "source-ca" } } }),
    ...(headers.length > 0 && {
      headers: headers.map(({ name }, index) => ({
        name,
        secretRef: { name: "source-headers", key: `header-${index}` },
      })),
    }),
    ...(proxy && { proxy: { url: proxy.url, ...(proxy.signIn && { secretRef: { name: "source-proxy" } }) } }),
    ...(pageSize !== undefined && { paging: { count: pageSize } }),
  };
}

function targetSpec(
  { target, connectionStringFile }: StandaloneArguments,
  folders: Folders,
  env: NodeJS.ProcessEnv,
): ExportTargetSpec {
  if (target.kind === "folder") return { volume: { claimName: "folder" } };
  const given = env.AZURE_STORAGE_CONNECTION_STRING;
  if (connectionStringFile) folders.linkSecret("target", { "connection-string": connectionStringFile });
  else if (given) folders.writeSecret("target", { "connection-string": given });
  else
    throw terminal(
      "TargetUnauthorized",
      "--target azure needs the connection string in AZURE_STORAGE_CONNECTION_STRING or in the file of --azure-connection-string",
    );
  return {
    azureBlob: {
      accountURL: accountURL(connectionStringFile ? readFileSync(connectionStringFile, "utf8") : (given ?? "")),
      ...(target.container !== undefined && { container: target.container }),
      auth: { connectionStringRef: { name: "target" } },
    },
  };
}

/** The blob endpoint in a connection string, for display: workers connect by the string itself.
 *  @throws terminal when the string names neither an endpoint nor an account */
export function accountURL(connectionString: string): string {
  const parts = new Map(
    connectionString
      .trim()
      .split(";")
      .map((part) => {
        const at = part.indexOf("=");
        return [part.slice(0, at), part.slice(at + 1)] as const;
      }),
  );
  const endpoint = parts.get("BlobEndpoint");
  if (endpoint) return withoutTrailingSlash(endpoint);
  const name = parts.get("AccountName");
  if (!name)
    throw terminal(
      "TargetUnauthorized",
      "the Azure connection string has neither BlobEndpoint nor AccountName; copy it anew from the storage account's access keys",
    );
  return `${parts.get("DefaultEndpointsProtocol") ?? "https"}://${name}.blob.${parts.get("EndpointSuffix") ?? "core.windows.net"}`;
}
