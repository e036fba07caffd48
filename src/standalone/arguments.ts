import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { terminal } from "../failure.ts";

export const standaloneUsage = `fhir-export standalone --source URL --target DIR|azure [options]

Serves FHIR $export over HTTP and runs the exports on this machine, without a cluster. The source is reached through the proxy
that HTTPS_PROXY (HTTP_PROXY for http sources) names, unless NO_PROXY names its host.

  --source URL               FHIR base URL to export from
  --target DIR|azure         folder to write to; or Azure Blob Storage, whose connection string is in the environment variable
                             AZURE_STORAGE_CONNECTION_STRING or in the file of --azure-connection-string
  --azure-connection-string FILE
                             file that holds the Azure connection string
  --container NAME           Azure container; without it every export gets a new one
  --source-auth-token FILE   file that holds the bearer token for the source; it is read again at each use
  --source-auth-username FILE, --source-auth-password FILE
                             files that hold user name and password for HTTP basic authentication; they are read again, too
  --source-header NAME=FILE  header to send with each request to the source, and the file that holds its value; may be given several times
  --source-ca FILE           certificate authorities (PEM) to trust for the source
  --page-size N              resources to ask for per page (1000)
  --shard-resources N        resources per shard, which one process exports at a time (100000)
  --inline-resources N       an export of fewer resources than this is done by one process (200000)
  --retry-seconds N          how long a worker repeats a request that fails; then it ends, and is started again later (600)
  --host ADDRESS             address to listen on (127.0.0.1). Without auth in --config everybody who reaches it may export
  --port N                   port to listen on; 0 = a free one (8080)
  --public-url URL           FHIR base URL as clients see it (http://HOST:PORT)
  --config FILE              YAML: what the HTTP service allows, and who may use it (docs/http.md); read again when it changes
  --data DIR                 folder for state, from which an interrupted export continues (./fhir-export-data)
  --apply FILE               YAML with FhirExports to make at the start; their sourceRef and targetRef are named "source" and "target"
`;

export interface StandaloneArguments {
  help: boolean;
  source: string;
  target: { kind: "folder"; folder: string } | { kind: "azure"; container?: string };
  connectionStringFile?: string;
  auth: { token?: string; username?: string; password?: string };
  headers: { name: string; file: string }[];
  ca?: string;
  pageSize?: number;
  shardResources?: number;
  inlineResources?: number;
  retrySeconds?: number;
  host: string;
  port: number;
  publicURL?: string;
  config?: string;
  data: string;
  apply?: string;
}

const textArgument = { type: "string" } as const;
const argumentsByName = {
  help: { type: "boolean", short: "h" },
  source: textArgument,
  target: textArgument,
  "azure-connection-string": textArgument,
  container: textArgument,
  "source-auth-token": textArgument,
  "source-auth-username": textArgument,
  "source-auth-password": textArgument,
  "source-header": { type: "string", multiple: true },
  "source-ca": textArgument,
  "page-size": textArgument,
  "shard-resources": textArgument,
  "inline-resources": textArgument,
  "retry-seconds": textArgument,
  host: textArgument,
  port: textArgument,
  "public-url": textArgument,
  config: textArgument,
  data: textArgument,
  apply: textArgument,
} as const;

/** The arguments of `standalone`. With --help they are not checked. @throws terminal, naming the argument */
export function parseArguments(args: string[]): StandaloneArguments {
  const { values } = parseArgs({ args, options: argumentsByName, strict: true });
  const { source = "", target = "" } = values;
  const [token, username, password] = (["token", "username", "password"] as const).map(
    (key) => values[`source-auth-${key}`],
  );
  if (!values.help) {
    if (!source) throw badArgument("--source is missing: give the FHIR base URL to export from");
    if (!target) throw badArgument("--target is missing: give a folder to write to, or azure");
    if ((username === undefined) !== (password === undefined))
      throw badArgument("--source-auth-username and --source-auth-password belong together: give both or neither");
    if (token !== undefined && username !== undefined)
      throw badArgument("--source-auth-token and --source-auth-username exclude each other: give one of them");
    if (target !== "azure" && values.container !== undefined)
      throw badArgument("--container is for --target azure only");
    if (values["public-url"] !== undefined && !/^https?:\/\/[^/?#@ ]+(\/[^?# ]*)?$/.test(values["public-url"]))
      throw badArgument("--public-url must be an http or https URL without user, query and fragment");
  }
  return {
    help: values.help ?? false,
    source,
    target:
      target === "azure"
        ? { kind: "azure", ...given("container", values.container) }
        : { kind: "folder", folder: resolve(target) },
    ...given("connectionStringFile", values["azure-connection-string"]),
    auth: { ...given("token", token), ...given("username", username), ...given("password", password) },
    headers: (values["source-header"] ?? []).map(headerOf),
    ...given("ca", values["source-ca"]),
    ...given("pageSize", wholeNumber("page-size", values["page-size"], 1)),
    ...given("shardResources", wholeNumber("shard-resources", values["shard-resources"], 1)),
    ...given("inlineResources", wholeNumber("inline-resources", values["inline-resources"], 0)),
    ...given("retrySeconds", wholeNumber("retry-seconds", values["retry-seconds"], 1)),
    host: values.host ?? "127.0.0.1",
    port: wholeNumber("port", values.port, 0, 65_535) ?? 8080,
    ...given("publicURL", values["public-url"]),
    ...given("config", values.config),
    data: resolve(values.data ?? "fhir-export-data"),
    ...given("apply", values.apply),
  };
}

function headerOf(text: string): { name: string; file: string } {
  const at = text.indexOf("=");
  if (at < 1 || at === text.length - 1)
    throw badArgument("--source-header must be NAME=FILE, for example X-API-Key=/run/secrets/api-key");
  return { name: text.slice(0, at), file: text.slice(at + 1) };
}

const badArgument = (message: string) => terminal("UnsupportedParameter", message);

/** An object with this member, or an empty one when there is no value. */
const given = <K extends string, V>(key: K, value: V | undefined) =>
  (value === undefined ? {} : { [key]: value }) as { [key in K]?: V };

function wholeNumber(name: string, value: string | undefined, least: number, most = 1_000_000_000): number | undefined {
  if (value === undefined) return undefined;
  const number = /^\d+$/.test(value) ? Number(value) : Number.NaN;
  if (!(number >= least && number <= most))
    throw badArgument(`--${name} must be a whole number from ${least} to ${most}`);
  return number;
}
