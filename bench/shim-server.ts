/** The server that bench/shim.ts measures: the HTTP service over an API server, with one more route that answers a
 *  constant. `node bench/shim-server.ts KUBECONFIG NAMESPACE PORT CONFIG` */
import { KubeClient } from "../src/kube/client.ts";
import { openShim } from "../src/kube/shim.ts";
import { makeLogger } from "../src/log.ts";

const [kubeconfig = "", namespace = "", port = "", config = ""] = process.argv.slice(2);
const client = KubeClient.load(kubeconfig);
const stop = new AbortController();
const served = {
  source: "hospital",
  target: "research",
  publicURL: `http://127.0.0.1:${port}`,
  namespace,
  volumeRoot: "/none",
  credentials: "/none",
  configFile: config,
};
const { app } = await openShim(client, served, stop.signal, makeLogger({}, "warn"));
// the least that a poll could be: the same status, headers and size, without looking anything up
app.get("/constant", async (_request, reply) =>
  reply.code(202).headers({ "x-progress": "0% waiting", "retry-after": "1" }).send(),
);
await app.listen({ host: "127.0.0.1", port: Number(port) });
console.log("ready");
