import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { terminal } from "../failure.ts";

export const usage = `fhir-export standalone --source URL --target DIR|azure [options]

Serves FHIR $export over HTTP and runs the exports on this machine, without a cluster.

  --source URL               FHIR base URL to export from
  --target DIR|azure         folder to write to; or Azure Blob Storage, whose connection string is in the environment variable
                             AZURE_STORAGE_CONNECTION_STRING or in the file of --azure-connection-string
  --azure-connection-string FILE
  --container NAME           Azure container; without it every export gets a new one
  --source-auth-token FILE   bearer token for the source; the file is read again at each use
  --source-auth-username FILE, --source-auth-password FILE
                             the same for HTTP basic authentication
  --source-ca FILE           certificate authorities (PEM) to trust at the source
  --page-size N              resources per page to ask for (1000)
  --shard-resources N        resources per piece of work (100000)
  --inline-resources N       exports below so many resources are done by one process (200000)
  --retry-seconds N          how long a worker repeats a failing request before it gives up for a while (600)
  --host ADDRESS             to listen on (127.0.0.1; without auth in --config anybody who gets there may export)
  --port N                   to listen on, 0 = a free one (8080)
  --public-url URL           FHIR base URL as clients see it (http://HOST:PORT)
  --config FILE              YAML: what the HTTP service allows, and who may use it (docs/http.md); read again when it changes
  --data DIR                 state; an export that was interrupted goes on from here (./fhir-export-data)
  --apply FILE               YAML of FhirExports to make at the start; their sourceRef and targetRef are named "source" and "target"
`;

export interface Arguments {
  help: boolean;
  source: string;
  target: { folder: string } | { azure: true; container?: string };
  connectionStringFile?: string;
  auth: { token?: string; username?: string; password?: string };
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

const text = { type: "string" } as const;
const options = {
  help: { type: "boolean", short: "h" },
  source: text,
  target: text,
  "azure-connection-string": text,
  container: text,
  "source-auth-token": text,
  "source-auth-username": text,
  "source-auth-password": text,
  "source-ca": text,
  "page-size": text,
  "shard-resources": text,
  "inline-resources": text,
  "retry-seconds": text,
  host: text,
  port: text,
  "public-url": text,
  config: text,
  data: text,
  apply: text,
} as const;

/** @throws terminal, naming the argument */
export function parseArguments(args: string[]): Arguments {
  const { values } = parseArgs({ args, options, strict: true });
  const { source = "", target = "" } = values;
  const [token, username, password] = (["token", "username", "password"] as const).map(
    (key) => values[`source-auth-${key}`],
  );
  if (!values.help) {
    if (!source) throw wrong("--source is missing: the FHIR base URL to export from");
    if (!target) throw wrong("--target is missing: a folder to write to, or azure");
    if ((username === undefined) !== (password === undefined))
      throw wrong("--source-auth-username and --source-auth-password belong together");
    if (token !== undefined && username !== undefined)
      throw wrong("--source-auth-token and --source-auth-username exclude each other");
    if (target !== "azure" && values.container !== undefined) throw wrong("--container is for --target azure only");
    if (values["public-url"] !== undefined && !/^https?:\/\/[^/?#@ ]+(\/[^?# ]*)?$/.test(values["public-url"]))
      throw wrong("--public-url must be an http or https URL without user, query and fragment");
  }
  return {
    help: values.help ?? false,
    source,
    target: target === "azure" ? { azure: true, ...given("container", values.container) } : { folder: resolve(target) },
    ...given("connectionStringFile", values["azure-connection-string"]),
    auth: { ...given("token", token), ...given("username", username), ...given("password", password) },
    ...given("ca", values["source-ca"]),
    ...given("pageSize", whole("page-size", values["page-size"], 1)),
    ...given("shardResources", whole("shard-resources", values["shard-resources"], 1)),
    ...given("inlineResources", whole("inline-resources", values["inline-resources"], 0)),
    ...given("retrySeconds", whole("retry-seconds", values["retry-seconds"], 1)),
    host: values.host ?? "127.0.0.1",
    port: whole("port", values.port, 0, 65_535) ?? 8080,
    ...given("publicURL", values["public-url"]),
    ...given("config", values.config),
    data: resolve(values.data ?? "fhir-export-data"),
    ...given("apply", values.apply),
  };
}

const wrong = (message: string) => terminal("UnsupportedParameter", message);

const given = <K extends string, V>(key: K, value: V | undefined) =>
  (value === undefined ? {} : { [key]: value }) as { [key in K]?: V };

function whole(name: string, value: string | undefined, least: number, most = 1_000_000_000): number | undefined {
  if (value === undefined) return undefined;
  const number = /^\d+$/.test(value) ? Number(value) : Number.NaN;
  if (!(number >= least && number <= most)) throw wrong(`--${name} must be a whole number from ${least} to ${most}`);
  return number;
}
