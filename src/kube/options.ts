import { parseArgs } from "node:util";
import { terminal } from "../failure.ts";
import { defaultSettings, type Settings } from "../operator/settings.ts";
import { type LeaseTimes, wrongTimes } from "./election.ts";

export interface OperatorOptions {
  kubeconfig?: string;
  /** none = all */
  namespaces: string[];
  /** of the health and metrics port; 0 = any */
  listen: { host: string; port: number };
  workers: number;
  pollSeconds: number;
  imagePullPolicy?: string;
  imagePullSecrets: string[];
  /** none = it leads without asking */
  election?: LeaseTimes & {
    name: string;
    /** default: the pod's own */
    namespace?: string;
  };
  settings: Settings & { image: string };
}

const text = { type: "string" } as const;
const flags = {
  help: { type: "boolean", short: "h" },
  kubeconfig: text,
  namespace: { type: "string", multiple: true },
  image: text,
  "image-pull-policy": text,
  "image-pull-secret": { type: "string", multiple: true },
  listen: text,
  workers: text,
  "max-exports": text,
  "shard-resources": text,
  "inline-resources": text,
  "retry-seconds": text,
  "progress-seconds": text,
  "download-grace-seconds": text,
  "poll-seconds": text,
  "leader-elect": { type: "boolean" },
  "lease-name": text,
  "lease-namespace": text,
  "lease-seconds": text,
  "renew-seconds": text,
  "retry-period-seconds": text,
} as const;

export const operatorUsage = `fhir-export operator: watches FhirExports and runs them as Jobs

  --image IMAGE             image of the worker pods (required)
  --namespace NAME          watch only this namespace; can be repeated. Default: all
  --kubeconfig FILE         default: KUBECONFIG, ~/.kube/config, the pod's service account
  --listen HOST:PORT        /healthz, /readyz and /metrics. Default: :8080
  --workers N               reconciliations at once. Default: 8
  --max-exports N           exports at once over all sources. Default: no limit
  --shard-resources N       resources per shard. Default: ${defaultSettings.shardResources}
  --inline-resources N      exports below so many resources need one pod only. Default: ${defaultSettings.inlineResources}
  --retry-seconds N         how long a worker repeats a failing request. Default: ${defaultSettings.retrySeconds}
  --progress-seconds N      how often progress is written to the status. Default: ${defaultSettings.progressSeconds}
  --download-grace-seconds N
                            how long files stay after the expiration of an export that was started over HTTP. Default: ${defaultSettings.downloadGraceSeconds}
  --poll-seconds N          how often workers are asked for it. Default: 5
  --image-pull-policy POLICY, --image-pull-secret NAME

  --leader-elect            of several replicas one works, the others stand by. Without it there must be only one
  --lease-name NAME         of the Lease that they share. Default: fhir-export-operator
  --lease-namespace NAME    where it is. Default: the pod's own
  --lease-seconds N         after so long without a sign of the leader another takes over. Default: 15
  --renew-seconds N         a leader that could not renew the lease for so long ends. Default: 10
  --retry-period-seconds N  between two tries to take or renew it. Default: 2

Each can be given as an environment variable too: FHIR_EXPORT_IMAGE, FHIR_EXPORT_NAMESPACE (with commas),
FHIR_EXPORT_LEADER_ELECT (true or false) and so on.
`;

/** The operator's options from its flags, then its environment. Undefined = help was asked for. */
export function parseOperatorOptions(
  args: string[],
  env: Record<string, string | undefined>,
): OperatorOptions | undefined {
  const { values } = parseArgs({ args, options: flags, strict: true });
  if (values.help) return undefined;
  const one = (name: Exclude<keyof typeof flags, "help" | "namespace" | "image-pull-secret" | "leader-elect">) =>
    values[name] ?? (env[variable(name)] || undefined);
  const many = (name: "namespace" | "image-pull-secret") =>
    values[name] ??
    (env[variable(name)] ?? "")
      .split(",")
      .map((part) => part.trim())
      .filter(Boolean);
  const number = (name: Parameters<typeof one>[0], otherwise: number, least: number): number => {
    const value = one(name);
    if (value === undefined) return otherwise;
    if (!/^\d{1,9}$/.test(value) || Number(value) < least)
      throw terminal("Internal", `--${name} must be a whole number of at least ${least}`);
    return Number(value);
  };
  const yes = (name: "leader-elect"): boolean => {
    const value = env[variable(name)] || "false";
    if (values[name] !== undefined) return values[name];
    if (value !== "true" && value !== "false") throw terminal("Internal", `${variable(name)} must be true or false`);
    return value === "true";
  };
  const times = {
    leaseSeconds: number("lease-seconds", 15, 1),
    renewSeconds: number("renew-seconds", 10, 1),
    retrySeconds: number("retry-period-seconds", 2, 1),
  };
  const wrong = wrongTimes(times);
  if (wrong) throw terminal("Internal", wrong);
  const image = one("image");
  if (!image) throw terminal("Internal", "--image (or FHIR_EXPORT_IMAGE) is missing: the image of the worker pods");
  const { kubeconfig, policy, maxExports, leaseNamespace } = {
    kubeconfig: one("kubeconfig"),
    leaseNamespace: one("lease-namespace"),
    policy: one("image-pull-policy"),
    maxExports: one("max-exports") === undefined ? undefined : number("max-exports", 0, 1),
  };
  return {
    ...(kubeconfig ? { kubeconfig } : {}),
    namespaces: [...new Set(many("namespace"))],
    listen: parseListen(one("listen") ?? ":8080"),
    workers: number("workers", 8, 1),
    pollSeconds: number("poll-seconds", 5, 1),
    ...(policy ? { imagePullPolicy: policy } : {}),
    imagePullSecrets: many("image-pull-secret"),
    ...(yes("leader-elect")
      ? {
          election: {
            ...times,
            name: one("lease-name") ?? "fhir-export-operator",
            ...(leaseNamespace ? { namespace: leaseNamespace } : {}),
          },
        }
      : {}),
    settings: {
      image,
      shardResources: number("shard-resources", defaultSettings.shardResources, 1),
      inlineResources: number("inline-resources", defaultSettings.inlineResources, 0),
      retrySeconds: number("retry-seconds", defaultSettings.retrySeconds, 1),
      progressSeconds: number("progress-seconds", defaultSettings.progressSeconds, 1),
      downloadGraceSeconds: number("download-grace-seconds", defaultSettings.downloadGraceSeconds, 0),
      volumeRoot: defaultSettings.volumeRoot,
      ...(maxExports === undefined ? {} : { maxExports }),
    },
  };
}

const variable = (flag: string) => `FHIR_EXPORT_${flag.toUpperCase().replaceAll("-", "_")}`;

function parseListen(value: string): { host: string; port: number } {
  const at = value.lastIndexOf(":");
  const port = value.slice(at + 1);
  if (at < 0 || !/^\d{1,5}$/.test(port) || Number(port) > 65535)
    throw terminal("Internal", "--listen must have the form HOST:PORT or :PORT");
  return { host: value.slice(0, at).replace(/^\[(.*)\]$/, "$1") || "::", port: Number(port) };
}
