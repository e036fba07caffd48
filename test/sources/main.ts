/** The sample source as a program: `node test/sources/main.ts [--port N] [--page-delay MS] [--scale N] [--seed N]
 *  [--paging cursor|offset|snapshot] [--max-count N] [--gzip] [--pretty] [--bearer TOKEN | --basic USER:PASSWORD]
 *  [--control]`. Its first line is the base URL; SIGTERM and SIGINT end it. */
import { parseArgs } from "node:util";
import type { Auth, Behaviour } from "./faults.ts";
import { startSource } from "./server.ts";

const { values } = parseArgs({
  options: {
    port: { type: "string", default: "0" },
    host: { type: "string", default: "127.0.0.1" },
    "page-delay": { type: "string", default: "0" },
    scale: { type: "string", default: "1" },
    seed: { type: "string", default: "1" },
    paging: { type: "string", default: "cursor" },
    "max-count": { type: "string", default: "250" },
    gzip: { type: "boolean", default: false },
    pretty: { type: "boolean", default: false },
    bearer: { type: "string" },
    basic: { type: "string" },
    control: { type: "boolean", default: false },
  },
});

const [username = "", ...password] = values.basic?.split(":") ?? [];
const auth: Auth = values.bearer
  ? { kind: "bearer", token: values.bearer }
  : values.basic
    ? { kind: "basic", username, password: password.join(":") }
    : { kind: "none" };
const source = await startSource({
  port: Number(values.port),
  host: values.host,
  scale: Number(values.scale),
  seed: Number(values.seed),
  control: values.control,
  auth,
  behaviour: {
    pageDelay: Number(values["page-delay"]),
    paging: values.paging as NonNullable<Behaviour["paging"]>,
    maxCount: Number(values["max-count"]),
    gzip: values.gzip,
    pretty: values.pretty,
  },
});
process.stdout.write(`${source.baseURL}\n`);
for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => void source.close());
