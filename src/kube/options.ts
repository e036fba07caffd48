import { parseArgs } from "node:util";
import { terminal } from "../failure.ts";
import { defaultSettings, type Settings } from "../operator/settings.ts";
import { type LeaseTimes, wrongTimes } from "./election.ts";

export interface OperatorOptions {
  kubeconfig?: string;
  /** the namespaces to watch; none = all */
  namespaces: string[];
  /** where health and metrics are served; port 0 = any free one */
  listen: { host: string; port: number };
  workers: number;
  pollSeconds: number;
  imagePullPolicy?: string;
  imagePullSecrets: string[];
  /** absent = no leader election: this operator works at once */
  election?: LeaseTimes & {
    name: string;
    /** where the Lease is; default: the pod's own namespace */
    namespace?: string;
  };
  settings: Settings & { image: string };
}

const textFlag = { type: "string" } as const;
const listFlag = { type: "string", multiple: true } as const;
const flags = {
  help: { type: "boolean", short: "h" },
  kubeconfig: textFlag,
  namespace: listFlag,
  image: textFlag,
  "image-pull-policy": textFlag,
  "image-pull-secret": listFlag,
  listen: textFlag,
  workers: textFlag,
  "max-exports": textFlag,
  "shard-resources": textFlag,
  "inline-resources": textFlag,
  "retry-seconds": textFlag,
  "progress-seconds": textFlag,
  "download-grace-seconds": textFlag,
  "poll-seconds": textFlag,
  "leader-elect": { type: "boolean" },
  "lease-name": textFlag,
  "lease-namespace": textFlag,
  "lease-seconds": textFlag,
  "renew-seconds": textFlag,
  "retry-period-seconds": textFlag,
} as const;

export const operatorUsage = `fhir-export operator: watches FhirExports and runs them as Jobs

  --image IMAGE             image of the worker pods (required)
  --namespace NAME          watch only this namespace; can be repeated. Default: all
  --kubeconfig FILE         default: KUBECONFIG, ~/.kube/config, the pod's service account
  --listen HOST:PORT        /healthz, /readyz and /metrics. Default: :8080
  --workers N               exports that are reconciled at the same time. Default: 8
  --max-exports N           exports that may run at the same time, over all sources. Default: no limit
  --shard-resources N       resources per shard, which one worker exports at a time. Default: ${defaultSettings.shardResources}
  --inline-resources N      an export of fewer resources than this runs in one pod. Default: ${defaultSettings.inlineResources}
  --retry-seconds N         how long a worker repeats a request that fails. Default: ${defaultSettings.retrySeconds}
  --progress-seconds N      how often progress is written to the status. Default: ${defaultSettings.progressSeconds}
  --download-grace-seconds N
                            how long the files of an export that was started over HTTP stay after its expiration, if its
                            deletionPolicy is Delete. Default: ${defaultSettings.downloadGraceSeconds}
  --poll-seconds N          how often workers are asked for their progress. Default: 5
  --image-pull-policy POLICY, --image-pull-secret NAME
                            of the worker pods; the second can be repeated

  --leader-elect            one of several replicas works, the others stand by. Without it only one operator may run
  --lease-name NAME         name of the Lease that the replicas share. Default: fhir-export-operator
  --lease-namespace NAME    namespace of the Lease. Default: the pod's own
  --lease-seconds N         another replica takes over when the leader has not renewed the lease for this long. Default: 15
  --renew-seconds N         a leader that could not renew the lease for this long ends. Default: 10
  --retry-period-seconds N  time between two tries to take or renew the lease. Default: 2

Each option can be given as an environment variable, too: FHIR_EXPORT_IMAGE, FHIR_EXPORT_NAMESPACE (separated by commas),
FHIR_EXPORT_LEADER_ELECT (true or false) and so on.
`;

/** The operator's options. A flag goes before its environment variable.
 *  @returns undefined when help was asked for
 *  @throws terminal, naming the flag */
export function parseOperatorOptions(
  args: string[],
  env: Record<string, string | undefined>,
): OperatorOptions | undefined {
  const { values } = parseArgs({ args, options: flags, strict: true });
  if (values.help) return undefined;
  const given = new GivenOptions(values, env);
  const image = given.text("image");
  if (!image) throw terminal("Internal", "--image (or FHIR_EXPORT_IMAGE) is missing: the image of the worker pods");
  const kubeconfig = given.text("kubeconfig");
  const imagePullPolicy = given.text("image-pull-policy");
  const maxExports = given.number("max-exports", undefined, 1);
  const election = electionOf(given);
  return {
    ...(kubeconfig ? { kubeconfig } : {}),
    namespaces: [...new Set(given.list("namespace"))],
    listen: parseListen(given.text("listen") ?? ":8080"),
    workers: given.number("workers", 8, 1),
    pollSeconds: given.number("poll-seconds", 5, 1),
    ...(imagePullPolicy ? { imagePullPolicy } : {}),
    imagePullSecrets: given.list("image-pull-secret"),
    ...(election ? { election } : {}),
    settings: {
      image,
      shardResources: given.number("shard-resources", defaultSettings.shardResources, 1),
      inlineResources: given.number("inline-resources", defaultSettings.inlineResources, 0),
      retrySeconds: given.number("retry-seconds", defaultSettings.retrySeconds, 1),
      progressSeconds: given.number("progress-seconds", defaultSettings.progressSeconds, 1),
      downloadGraceSeconds: given.number("download-grace-seconds", defaultSettings.downloadGraceSeconds, 0),
      volumeRoot: defaultSettings.volumeRoot,
      ...(maxExports === undefined ? {} : { maxExports }),
    },
  };
}

/** The election's options, undefined without --leader-elect. The times are checked in any case. */
function electionOf(given: GivenOptions): OperatorOptions["election"] {
  const times = {
    leaseSeconds: given.number("lease-seconds", 15, 1),
    renewSeconds: given.number("renew-seconds", 10, 1),
    retrySeconds: given.number("retry-period-seconds", 2, 1),
  };
  const problem = wrongTimes(times);
  if (problem) throw terminal("Internal", problem);
  const namespace = given.text("lease-namespace");
  const name = given.text("lease-name") ?? "fhir-export-operator";
  return given.isSet("leader-elect") ? { ...times, name, ...(namespace ? { namespace } : {}) } : undefined;
}

type ListFlag = "namespace" | "image-pull-secret";
type SwitchFlag = "leader-elect";
type TextFlag = Exclude<keyof typeof flags, "help" | ListFlag | SwitchFlag>;
type GivenFlags = { [name in TextFlag]?: string } & { [name in ListFlag]?: string[] } & {
  [name in SwitchFlag]?: boolean;
};

/** What was given by flags and, where there is no flag, by environment variables; an empty variable counts as none. */
class GivenOptions {
  readonly #flags: GivenFlags;
  readonly #env: Record<string, string | undefined>;

  constructor(flags: GivenFlags, env: Record<string, string | undefined>) {
    this.#flags = flags;
    this.#env = env;
  }

  text(name: TextFlag): string | undefined {
    return this.#flags[name] ?? (this.#env[variable(name)] || undefined);
  }

  list(name: ListFlag): string[] {
    const fromVariable = (this.#env[variable(name)] ?? "").split(",").map((part) => part.trim());
    return this.#flags[name] ?? fromVariable.filter(Boolean);
  }

  isSet(name: SwitchFlag): boolean {
    const flag = this.#flags[name];
    if (flag !== undefined) return flag;
    const value = this.#env[variable(name)] || "false";
    if (value !== "true" && value !== "false") throw terminal("Internal", `${variable(name)} must be true or false`);
    return value === "true";
  }

  /** @throws terminal unless it is a whole number of at least `least` and at most nine digits */
  number<Otherwise extends number | undefined>(
    name: TextFlag,
    otherwise: Otherwise,
    least: number,
  ): number | Otherwise {
    const value = this.text(name);
    if (value === undefined) return otherwise;
    if (!/^\d{1,9}$/.test(value) || Number(value) < least)
      throw terminal("Internal", `--${name} must be a whole number of at least ${least}`);
    return Number(value);
  }
}

const variable = (flag: string) => `FHIR_EXPORT_${flag.toUpperCase().replaceAll("-", "_")}`;

function parseListen(value: string): { host: string; port: number } {
  const at = value.lastIndexOf(":");
  const port = value.slice(at + 1);
  if (at < 0 || !/^\d{1,5}$/.test(port) || Number(port) > 65535)
    throw terminal("Internal", "--listen must have the form HOST:PORT or :PORT");
  return { host: value.slice(0, at).replace(/^\[(.*)\]$/, "$1") || "::", port: Number(port) };
}
