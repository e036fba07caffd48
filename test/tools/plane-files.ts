/** Command lines, keys and users of a control plane, both of the one on 127.0.0.1 (control-plane.ts) and of the one on
 *  the node (node/). */
import { generateKeyPairSync, randomBytes } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Programs } from "./build.ts";

export type Command = [program: string, args: string[]];

/** Users that authenticate by a token: from a short name, which is in the names of their files, to the name and groups
 *  that the API server sees. */
export type Users = Record<string, { name?: string; groups?: string[] }>;

export const serverUsers = {
  admin: { groups: ["system:masters"] },
  controllers: { name: "system:kube-controller-manager" },
  scheduler: { name: "system:kube-scheduler" },
} satisfies Users;

/** The file in which the API server puts the certificate that it makes for itself, with the CA of it. */
export const caFileOf = (folder: string): string => join(folder, "pki/apiserver.crt");

/** Writes the service account keys, the tokens, a kubeconfig `{user}.kubeconfig` for each user and the scheduler's
 *  configuration.
 *  @returns the tokens */
export function writePlaneFiles<Names extends Users>(
  folder: string,
  server: string,
  users: Names,
): Record<keyof Names, string> {
  const write = (name: string, text: string) => writeFileSync(join(folder, name), text, { mode: 0o600 });
  mkdirSync(join(folder, "pki"));
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  write("sa.key", privateKey.export({ type: "sec1", format: "pem" }) as string);
  write("sa.pub", publicKey.export({ type: "spki", format: "pem" }) as string);
  const tokens: Record<string, string> = {};
  const lines = Object.entries(users).map(([user, { name = user, groups = [] }], id) => {
    tokens[user] = randomBytes(16).toString("hex");
    return `${tokens[user]},${name},${id}${groups.length ? `,"${groups.join()}"` : ""}\n`;
  });
  write("tokens.csv", lines.join(""));
  for (const [user, token] of Object.entries(tokens)) {
    const config = {
      apiVersion: "v1",
      kind: "Config",
      clusters: [{ name: "test", cluster: { server, "certificate-authority": caFileOf(folder) } }],
      users: [{ name: user, user: { token } }],
      contexts: [{ name: "test", context: { cluster: "test", user } }],
      "current-context": "test",
    };
    write(`${user}.kubeconfig`, JSON.stringify(config));
  }
  const scheduler = {
    apiVersion: "kubescheduler.config.k8s.io/v1",
    kind: "KubeSchedulerConfiguration",
    clientConnection: { kubeconfig: join(folder, "scheduler.kubeconfig"), qps: 1000, burst: 2000 },
    leaderElection: { leaderElect: false },
    podInitialBackoffSeconds: 1,
    podMaxBackoffSeconds: 2,
  };
  write("scheduler.yaml", JSON.stringify(scheduler));
  return tokens as Record<keyof Names, string>;
}

export function etcdCommand(programs: Programs, data: string, port: number, peerPort: number): Command {
  const [client, peer] = [`http://127.0.0.1:${port}`, `http://127.0.0.1:${peerPort}`];
  return [
    programs.etcd,
    [
      ...["--name=e", `--data-dir=${data}`, "--unsafe-no-fsync", "--log-level=warn"],
      // A single member need not wait for elections; this saves 0.3 to 0.9 s.
      ...["--heartbeat-interval=10", "--election-timeout=100"],
      ...[`--listen-client-urls=${client}`, `--advertise-client-urls=${client}`],
      ...[`--listen-peer-urls=${peer}`, `--initial-advertise-peer-urls=${peer}`, `--initial-cluster=e=${peer}`],
    ],
  ];
}

/** @param more options for the address to listen on, and for admission */
export function apiserverCommand(programs: Programs, folder: string, etcdPort: number, more: string[]): Command {
  const path = (name: string) => join(folder, name);
  return [
    programs.apiserver,
    [
      ...[
        `--etcd-servers=http://127.0.0.1:${etcdPort}`,
        `--cert-dir=${path("pki")}`,
        `--token-auth-file=${path("tokens.csv")}`,
      ],
      "--service-account-issuer=https://kubernetes.default.svc",
      ...[`--service-account-signing-key-file=${path("sa.key")}`, `--service-account-key-file=${path("sa.pub")}`],
      // This is the benchmark range, whose addresses exist nowhere.
      "--service-cluster-ip-range=198.18.1.0/24",
      ...[
        "--authorization-mode=Node,RBAC",
        "--allow-privileged=true",
        "--profiling=false",
        "--enable-priority-and-fairness=false",
      ],
      ...more,
    ],
  ];
}

/** @param controllers names of the controllers to run */
export function controllersCommand(program: string, folder: string, controllers: string[]): Command {
  return [
    program,
    [
      ...[
        `--kubeconfig=${join(folder, "controllers.kubeconfig")}`,
        "--secure-port=0",
        "--leader-elect=false",
        "--profiling=false",
      ],
      ...[`--service-account-private-key-file=${join(folder, "sa.key")}`, `--root-ca-file=${caFileOf(folder)}`],
      "--use-service-account-credentials=true",
      // By default, 20 requests a second, 1,000 pods would take 100 s.
      ...["--kube-api-qps=1000", "--kube-api-burst=2000", "--concurrent-job-syncs=10"],
      // The first pod with a claim would wait for this time, which is 15 s by default.
      "--pvclaimbinder-sync-period=1s",
      `--controllers=${controllers.join(",")}`,
    ],
  ];
}

export const schedulerCommand = (program: string, folder: string): Command => [
  program,
  [`--config=${join(folder, "scheduler.yaml")}`, "--secure-port=0"],
];
