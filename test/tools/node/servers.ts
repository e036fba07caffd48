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
/** the name of the node's API server within the namespaces */
export const server = `https://${nodeAddress}:${port}`;
export const etcdPort = 2379;

const users = {
  ...serverUsers,
  kubelet: { name: `system:node:${nodeName}`, groups: ["system:nodes"] },
  proxy: { name: "system:kube-proxy" },
  dns: { groups: ["system:masters"] },
};

/** Writes the files that the servers read into the node's folder. */
export function writeServerFiles(folder: string): void {
  const path = (name: string) => join(folder, name);
  writePlaneFiles(folder, server, users);
  // The kubelet recognises the API server by this certificate, which is its own authority. Other clients need a token.
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

/** The command of each server, to be run inside the namespaces. */
export function serverCommands({ plane, node }: NodePrograms, folder: string): Record<Server, Command> {
  const path = (name: string) => join(folder, name);
  const more = [
    // The lease reconciler sets the endpoints of the Service `kubernetes`.
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
      // With this a pod can reach itself through its Service.
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
  // Tests must not depend on the machine's disk and memory, so the kubelet evicts no pod and removes no image because
  // of them.
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
  // The set-up script makes this file.
  resolvConf: join(folder, "resolv.conf"),
  oomScoreAdj: 0,
  maxPods: 250,
  serializeImagePulls: false,
  // A mounted Secret follows its object within this time; the default is a minute.
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
  // A Service gets its rules as soon as its pod is ready. By default this takes up to a second, and Helm does not wait
  // for it.
  iptables: { minSyncPeriod: "0s" },
  // kube-proxy would set these limits of the machine.
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
