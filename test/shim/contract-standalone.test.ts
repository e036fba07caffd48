import { createHash } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startSource } from "../sources/server.ts";
import { Standalone } from "../standalone/harness.ts";
import { until } from "../tools/until.ts";
import { contract } from "./contract.ts";

contract("a standalone", {}, async () => {
  const root = await mkdtemp(join(tmpdir(), "fhir-export-contract-"));
  const source = await startSource();
  const file = join(root, "config.yaml");
  await writeFile(file, "");
  const standalone = await Standalone.start([
    ...["--source", source.baseURL, "--target", join(root, "out"), "--data", join(root, "data")],
    ...["--shard-resources", "500", "--inline-resources", "0", "--retry-seconds", "5", "--config", file],
  ]);
  let number = 0;
  return {
    base: standalone.baseURL,
    others: [],
    source,
    folder: root,
    write: (text) => writeFile(file, text),
    output: () => standalone.output,
    configure: async (text) => {
      const content = `# ${++number}\n${text}\n`;
      await writeFile(file, content);
      const digest = createHash("sha256").update(content).digest("hex").slice(0, 12);
      await until("the configuration", async () => standalone.output.includes(digest));
    },
    close: async () => {
      await standalone.end();
      await source.close();
      await rm(root, { recursive: true, force: true });
    },
  };
});
