/** The shim over objects in memory, for tools that call it from outside: `node test/tools/shim-server.ts PORT`. One
 *  export is complete, one is running. */
import { randomBytes } from "node:crypto";
import { condition, name, shim } from "../shim/memory.ts";

const port = Number(process.argv[2]);
const { app, store } = shim({
  config: { publicURL: `http://127.0.0.1:${port}` },
  settings: "limits: { exportsPerClient: 0, pollsPerMinute: 0 }",
  random: randomBytes,
  now: () => new Date(),
});
const origin = { client: "anonymous", request: `http://127.0.0.1:${port}/$export` };
const spec = { sourceRef: { name: "hospital" }, targetRef: { name: "research" }, origin };
await store.create({ metadata: { name }, spec });
Object.assign(store.objects.get(name)!, { status: { conditions: [condition("Complete", "True", "Complete")] } });
// An export that a client has deleted is made again for the next client.
const { cancel } = store;
store.cancel = async (which) => (which === name ? undefined : cancel.call(store, which));
await store.create({ metadata: { name: `export-${"b".repeat(26)}` }, spec });
await app.listen({ host: "127.0.0.1", port });
console.log("ready");
