/** The servers of the node: their files and command lines. */
import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  apiserverCommand,
  type Command,
  controllersCommand,
  etcdCommand,
  schedulerCommand,
  serverUsers,
  writePlaneFiles,
} from "../plane-files.ts";
import { containerdSocket, pauseImage } from "./images.ts";
import { nodeAddress, nodeHost, nodeName, podRange } from "./namespaces.ts";
import type { NodePrograms } from "./programs.ts";

export type Server = "containerd" | "etcd" | "apiserver" | "controllers" | "scheduler" | "kubelet" | "proxy" | "dns";

const port = 6443;
/** what the node's API server is called, inside */
export const server = `https://${nodeAddress}:${port}`;
export const etcdPort = 2379;

const users = {
  ...serverUsers,
  kubelet: { name: `system:node:${nodeName}`, groups: ["system:nodes"] },
  proxy: { name: "system:kube-proxy" },
  dns: { groups: ["system:masters"] },
};

/** Writes what the servers read, into the node's folder. */
export function writeServerFiles(folder: string): void {
  const path = (name: string) => join(folder, name);
  writePlaneFiles(folder, server, users);
  // what the kubelet knows the API server by: a certificate that is its own authority. Tokens it would take from anyone but the API server.
  execFileSync(
    "openssl",
    [
      ...["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"],
      ...[
        "-subj",
        "/O=system:masters/CN=apiserver",
        "-keyout",
        path("kubelet-client.key"),
        "-out",
        path("kubelet-client.crt"),
      ],
    ],
    { stdio: ["ignore", "ignore", "pipe"] },
  );
  mkdirSync(path("cni"));
  writeFileSync(path("containerd.toml"), containerdConfig(folder));
  writeFileSync(path("cni/10-pods.conflist"), JSON.stringify(network));
  writeFileSync(path("kubelet.yaml"), JSON.stringify(kubeletConfig(folder)));
  writeFileSync(path("proxy.yaml"), JSON.stringify(proxyConfig(folder)));
  writeFileSync(path("Corefile"), corefile(folder));
}

/** How each is started, inside the namespaces. */
export function serverCommands({ plane, node }: NodePrograms, folder: string): Record<Server, Command> {
  const path = (name: string) => join(folder, name);
  const more = [
    // the lease reconciler fills the Service `kubernetes`
    ...[
      "--bind-address=0.0.0.0",
      `--advertise-address=${nodeAddress}`,
      `--secure-port=${port}`,
      "--endpoint-reconciler-type=lease",
    ],
    ...[
      `--kubelet-client-certificate=${path("kubelet-client.crt")}`,
      `--kubelet-client-key=${path("kubelet-client.key")}`,
    ],
    "--kubelet-preferred-address-types=InternalIP",
  ];
  return {
    containerd: ["containerd", ["--config", path("containerd.toml")]],
    etcd: etcdCommand(plane, path("etcd/data"), etcdPort, etcdPort + 1),
    apiserver: apiserverCommand(plane, folder, etcdPort, more),
    controllers: controllersCommand(plane.controllerManager, folder, ["*"]),
    scheduler: schedulerCommand(plane.scheduler, folder),
    kubelet: [
      join(node, "kubelet"),
      [
        ...[`--config=${path("kubelet.yaml")}`, `--kubeconfig=${path("kubelet.kubeconfig")}`],
        ...[`--hostname-override=${nodeName}`, `--node-ip=${nodeAddress}`],
        ...[`--root-dir=${path("kubelet")}`, `--cert-dir=${path("kubelet-pki")}`],
      ],
    ],
    proxy: [join(node, "kube-proxy"), [`--config=${path("proxy.yaml")}`]],
    dns: [join(node, "coredns"), ["-conf", path("Corefile")]],
  };
}

const containerdConfig = (folder: string) => `version = 2
root = "${folder}/containerd"
state = "/run/containerd-state"
oom_score = 0
disabled_plugins = [${["aufs", "btrfs", "zfs", "devmapper"].map((name) => `"io.containerd.snapshotter.v1.${name}"`).join(", ")}]
[grpc]
  address = "${containerdSocket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "${pauseImage}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "${folder}/cni"
[plugins."io.containerd.internal.v1.opt"]
  path = "${folder}/containerd-opt"
`;

const network = {
  cniVersion: "0.4.0",
  name: "pods",
  plugins: [
    {
      type: "bridge",
      bridge: "cni0",
      isGateway: true,
      ipMasq: false,
      // a pod reaches itself through its Service
      hairpinMode: true,
      ipam: {
        type: "host-local",
        ranges: [[{ subnet: podRange }]],
        routes: [{ dst: "0.0.0.0/0" }],
        dataDir: "/run/cni-addresses",
      },
    },
    { type: "portmap", capabilities: { portMappings: true } },
  ],
};

const kubeletConfig = (folder: string) => ({
  apiVersion: "kubelet.config.k8s.io/v1beta1",
  kind: "KubeletConfiguration",
  address: nodeAddress,
  readOnlyPort: 0,
  healthzBindAddress: "127.0.0.1",
  cgroupDriver: "cgroupfs",
  failCgroupV1: false,
  failSwapOn: false,
  containerRuntimeEndpoint: `unix://${containerdSocket}`,
  enforceNodeAllocatable: [],
  // the machine's own disk and memory are not the tests' matter: no pod is to be put out, and no image collected, for them
  evictionHard: {
    "memory.available": "50Mi",
    "nodefs.available": "1%",
    "imagefs.available": "1%",
    "nodefs.inodesFree": "1%",
  },
  imageGCHighThresholdPercent: 100,
  imageGCLowThresholdPercent: 99,
  authentication: {
    anonymous: { enabled: false },
    webhook: { enabled: true },
    x509: { clientCAFile: join(folder, "kubelet-client.crt") },
  },
  authorization: { mode: "Webhook" },
  clusterDomain: "cluster.local",
  clusterDNS: [nodeAddress],
  // made by the set-up script
  resolvConf: join(folder, "resolv.conf"),
  oomScoreAdj: 0,
  maxPods: 250,
  serializeImagePulls: false,
  // how soon a mounted Secret follows its object; the default is a minute
  syncFrequency: "3s",
  nodeStatusUpdateFrequency: "2s",
  nodeLeaseDurationSeconds: 8,
});

const proxyConfig = (folder: string) => ({
  apiVersion: "kubeproxy.config.k8s.io/v1alpha1",
  kind: "KubeProxyConfiguration",
  mode: "iptables",
  hostnameOverride: nodeName,
  clusterCIDR: podRange,
  clientConnection: { kubeconfig: join(folder, "proxy.kubeconfig") },
  healthzBindAddress: "127.0.0.1:10256",
  metricsBindAddress: "127.0.0.1:10249",
  oomScoreAdj: 0,
  // a Service has its rules as soon as its pod is ready; the default is up to a second later, when Helm has long gone on
  iptables: { minSyncPeriod: "0s" },
  // these would be the machine's limits
  conntrack: { maxPerCore: 0, min: 0, tcpEstablishedTimeout: "0s", tcpCloseWaitTimeout: "0s" },
});

const corefile = (folder: string) => `.:53 {
  bind ${nodeAddress}
  errors
  hosts {
    ${nodeAddress} ${nodeHost}
    fallthrough
  }
  kubernetes cluster.local in-addr.arpa {
    kubeconfig ${folder}/dns.kubeconfig
  }
}
`;
