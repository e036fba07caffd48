import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { constants } from "node:os";
import { dirname, join } from "node:path";
import { type KubeClient, type KubeObject, pathOf, resources } from "../../src/kube/client.ts";
import { isNotFound } from "../../src/kube/error.ts";
import type { Exit, RunningProcess } from "../../src/standalone/process.ts";

/** The parts of a pod that the process kubelet acts on. */
export interface Pod extends KubeObject {
  metadata: KubeObject["metadata"] & { deletionGracePeriodSeconds?: number };
  spec: {
    containers: Container[];
    volumes?: Volume[];
    nodeName?: string;
    serviceAccountName?: string;
    restartPolicy?: string;
  };
  status?: { phase?: string };
}
export interface Container {
  name: string;
  image: string;
  command?: string[];
  args?: string[];
  workingDir?: string;
  env?: { name: string; value?: string; valueFrom?: { fieldRef?: { fieldPath: string } } }[];
  volumeMounts?: { name: string; mountPath: string }[];
  terminationMessagePath?: string;
  terminationMessagePolicy?: string;
}
interface Items {
  items?: { key: string; path: string }[];
  optional?: boolean;
}
interface Sources {
  secret?: Items & { name: string };
  configMap?: Items & { name: string };
}
interface Volume {
  name: string;
  secret?: Items & { secretName: string };
  configMap?: Items & { name: string };
  projected?: { sources: Sources[] };
  emptyDir?: object;
  persistentVolumeClaim?: { claimName: string };
}

// The fields that the process kubelet acts on, and those that it can ignore, as a process of this machine has no such
// thing.
const known = {
  spec: [
    ...[
      "containers",
      "volumes",
      "nodeName",
      "restartPolicy",
      "terminationGracePeriodSeconds",
      "serviceAccountName",
      "serviceAccount",
    ],
    ...[
      "automountServiceAccountToken",
      "enableServiceLinks",
      "securityContext",
      "nodeSelector",
      "tolerations",
      "affinity",
      "priorityClassName",
    ],
    ...["priority", "preemptionPolicy", "schedulerName", "dnsPolicy", "imagePullSecrets", "hostname", "subdomain"],
  ],
  container: [
    ...[
      "name",
      "image",
      "command",
      "args",
      "workingDir",
      "env",
      "volumeMounts",
      "terminationMessagePath",
      "terminationMessagePolicy",
    ],
    ...["imagePullPolicy", "resources", "securityContext", "ports", "livenessProbe", "readinessProbe", "startupProbe"],
  ],
  env: ["name", "value", "valueFrom"],
  valueFrom: ["fieldRef"],
  mount: ["name", "mountPath", "readOnly"],
  volume: ["name", "secret", "configMap", "projected", "emptyDir", "persistentVolumeClaim"],
  source: ["secret", "configMap"],
};

/** The first unknown field, so that no test passes because a field was silently ignored. */
export function unknownField({ spec }: Pod): string | undefined {
  const check = (path: string, object: object, names: string[]): string[] =>
    Object.keys(object).flatMap((name) => (names.includes(name) ? [] : [`${path}.${name}`]));
  const each = <One extends object>(
    path: string,
    list: One[] | undefined,
    names: string[],
    more?: (path: string, one: One) => string[],
  ) =>
    (list ?? []).flatMap((one, i) => [...check(`${path}[${i}]`, one, names), ...(more?.(`${path}[${i}]`, one) ?? [])]);
  const found = [
    ...check("spec", spec, known.spec),
    ...(spec.restartPolicy === "Never" ? [] : [`spec.restartPolicy ${spec.restartPolicy}`]),
    ...each("spec.containers", spec.containers, known.container, (path, container) => [
      ...each(`${path}.env`, container.env, known.env, (at, { valueFrom }) =>
        check(`${at}.valueFrom`, valueFrom ?? {}, known.valueFrom),
      ),
      ...each(`${path}.volumeMounts`, container.volumeMounts, known.mount),
      ...(container.terminationMessagePolicy === "File"
        ? []
        : [`${path}.terminationMessagePolicy ${container.terminationMessagePolicy}`]),
    ]),
    ...each("spec.volumes", spec.volumes, known.volume, (path, { projected }) =>
      each(`${path}.projected.sources`, projected?.sources, known.source),
    ),
  ];
  return found[0];
}

/** Lays the volumes of a pod out below a folder.
 *  @returns the host path of each volume, or what is still missing */
export async function makeFiles(client: KubeClient, pod: Pod, folder: string): Promise<Map<string, string> | string> {
  const { namespace = "" } = pod.metadata;
  try {
    const paths = await foldersOfClaims(client, pod);
    // A file may name a folder of another mount, as the Task does.
    const rewrite = rewriter(mountsOf(pod, paths));
    for (const volume of pod.spec.volumes ?? []) {
      if (paths.has(volume.name)) continue;
      const host = join(folder, volume.name);
      paths.set(volume.name, host);
      mkdirSync(host, { recursive: true, mode: 0o750 });
      for (const source of sourcesOf(volume))
        for (const [path, bytes] of await filesOf(client, namespace, source))
          writeFile(join(host, path), bytes, rewrite);
    }
    return paths;
  } catch (error) {
    if (!isNotFound(error) && !(error instanceof Missing)) throw error;
    return (error as Error).message;
  }
}

/** The host paths of the volumes that are claims, by the name of the volume. */
async function foldersOfClaims(client: KubeClient, { metadata, spec }: Pod): Promise<Map<string, string>> {
  const paths = new Map<string, string>();
  for (const { name, persistentVolumeClaim: claim } of spec.volumes ?? [])
    if (claim) paths.set(name, await pathOfClaim(client, metadata.namespace ?? "", claim.claimName));
  return paths;
}

/** The host paths of these volumes by the path at which a container mounts them. */
const mountsOf = ({ spec }: Pod, paths: ReadonlyMap<string, string>): Map<string, string> =>
  new Map(
    spec.containers.flatMap(({ volumeMounts = [] }) =>
      volumeMounts.flatMap(({ name, mountPath }): [string, string][] => {
        const host = paths.get(name);
        return host === undefined ? [] : [[mountPath, host]];
      }),
    ),
  );

const sourcesOf = ({ secret, configMap, projected }: Volume): Sources[] => [
  ...(secret ? [{ secret: { ...secret, name: secret.secretName } }] : []),
  ...(configMap ? [{ configMap }] : []),
  ...(projected?.sources ?? []),
];

class Missing extends Error {}

async function filesOf(
  client: KubeClient,
  namespace: string,
  { secret, configMap }: Sources,
): Promise<[string, Buffer][]> {
  const source = secret ?? configMap!;
  const path = pathOf(secret ? resources.secrets : resources.configMaps, { namespace, name: source.name });
  interface Data extends KubeObject {
    data?: Record<string, string>;
  }
  let data: Record<string, string>;
  try {
    data = (await client.get<Data>(path)).data ?? {};
  } catch (error) {
    if (source.optional && isNotFound(error)) return [];
    throw error;
  }
  const items = source.items ?? Object.keys(data).map((key) => ({ key, path: key }));
  return items.flatMap((item): [string, Buffer][] => {
    const value = data[item.key];
    if (value !== undefined) return [[item.path, Buffer.from(value, secret ? "base64" : "utf8")]];
    if (source.optional) return [];
    throw new Missing(`${secret ? "Secret" : "ConfigMap"} ${source.name} has no key ${item.key}`);
  });
}

function writeFile(path: string, bytes: Buffer, rewrite: (text: string) => string): void {
  mkdirSync(dirname(path), { recursive: true, mode: 0o750 });
  writeFileSync(path, Buffer.from(rewrite(bytes.toString("latin1")), "latin1"), { mode: 0o440 });
}

/** The folder of a bound claim, which is that of its hostPath volume. */
async function pathOfClaim(client: KubeClient, namespace: string, name: string): Promise<string> {
  interface Claim extends KubeObject {
    spec: { volumeName?: string };
  }
  interface PersistentVolume extends KubeObject {
    spec: { hostPath?: { path: string } };
  }
  const claim = await client.get<Claim>(
    pathOf({ api: "/api/v1", plural: "persistentvolumeclaims" }, { namespace, name }),
  );
  if (!claim.spec.volumeName) throw new Missing(`claim ${name} is not bound`);
  const volume = await client.get<PersistentVolume>(
    pathOf({ api: "/api/v1", plural: "persistentvolumes" }, { name: claim.spec.volumeName }),
  );
  if (!volume.spec.hostPath) throw new Missing(`the volume of claim ${name} is no hostPath`);
  return volume.spec.hostPath.path;
}

/** Replaces paths inside the container by paths of this machine, as a process has no file system of its own. */
export function makeRewrite(
  container: Container,
  volumes: Map<string, string>,
  termination: string,
): (text: string) => string {
  const pairs = (container.volumeMounts ?? []).map(({ name, mountPath }): [string, string] => [
    mountPath.replace(/\/$/, ""),
    volumes.get(name) ?? "",
  ]);
  return rewriter(new Map([...pairs, [container.terminationMessagePath ?? "/dev/termination-log", termination]]));
}

/** Replaces paths in one pass, the longest first, and whole segments only: `/data` is neither in `/database` nor in
 *  `/var/data`. */
function rewriter(paths: Map<string, string>): (text: string) => string {
  if (paths.size === 0) return (text) => text;
  const inside = [...paths.keys()]
    .sort((a, b) => b.length - a.length)
    .map((path) => path.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  const pattern = new RegExp(`(?<![\\w.\\-/])(${inside.join("|")})(?![\\w.\\-])`, "g");
  return (text) => text.replace(pattern, (path) => paths.get(path)!);
}

/** The environment of a container, and a function that replaces `$(NAME)` in its command. */
export function makeEnv(pod: Pod, container: Container, ip: string, rewrite: (text: string) => string) {
  const env: Record<string, string> = {
    PATH: process.env.PATH ?? "",
    HOME: process.env.HOME ?? "",
    HOSTNAME: pod.metadata.name,
    // a worker whose code was compiled before starts in a third of the time
    ...(process.env.NODE_COMPILE_CACHE && { NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE }),
  };
  const temporary = rewrite("/tmp");
  if (temporary !== "/tmp") env.TMPDIR = temporary;
  // These are the values as the container would see them. Paths are replaced only once, at the end.
  const inside: Record<string, string> = {};
  const fill = (text: string) =>
    text.replace(/\$(\$|\(([\w.-]+)\))/g, (whole, what: string, name: string) =>
      what === "$" ? "$" : (inside[name] ?? whole),
    );
  for (const { name, value, valueFrom } of container.env ?? []) {
    inside[name] = valueFrom?.fieldRef ? fieldOf(pod, ip, valueFrom.fieldRef.fieldPath) : fill(value ?? "");
    env[name] = rewrite(inside[name]);
  }
  return { env, expand: (text: string) => rewrite(fill(text)) };
}

function fieldOf(pod: Pod, ip: string, path: string): string {
  const { name, namespace = "", uid = "", labels, annotations } = pod.metadata;
  const [, kind, key = ""] = /^metadata\.(labels|annotations)\['(.+)'\]$/.exec(path) ?? [];
  if (kind) return (kind === "labels" ? labels : annotations)?.[key] ?? "";
  const fields: Record<string, string> = {
    "status.podIP": ip,
    "status.hostIP": "127.0.0.1",
    "metadata.name": name,
    "metadata.namespace": namespace,
    "metadata.uid": uid,
    "spec.nodeName": pod.spec.nodeName ?? "",
    "spec.serviceAccountName": pod.spec.serviceAccountName ?? "",
  };
  if (!(path in fields)) throw new Error(`the process kubelet does not know the field ${path}`);
  return fields[path]!;
}

/** A container that was started. */
export interface Started {
  container: Container;
  process: RunningProcess;
  startedAt: string;
  log: string;
  termination: string;
  exit?: Exit & { at: string };
}

/** The state of a container in the pod's status, from its process. */
export function stateOf({ exit, startedAt, termination, process }: Started): object {
  if (!exit) return { running: { startedAt: seconds(startedAt) } };
  const signal = exit.signal ? constants.signals[exit.signal] : undefined;
  const exitCode = exit.code ?? (signal === undefined ? 128 : 128 + signal);
  // The real kubelet reads no more than 4,096 bytes.
  const message = exit.error?.message ?? read(termination).subarray(0, 4096).toString();
  const reason = process.pid === undefined ? "StartError" : exitCode === 0 ? "Completed" : "Error";
  return {
    terminated: {
      exitCode,
      ...(signal && { signal }),
      reason,
      message,
      startedAt: seconds(startedAt),
      finishedAt: seconds(exit.at),
    },
  };
}

const read = (path: string): Buffer => {
  try {
    return readFileSync(path);
  } catch {
    return Buffer.of();
  }
};
/** An instant without its fraction, as the API writes it. */
export const seconds = (time = new Date().toISOString()) => time.replace(/\.\d+/, "");
