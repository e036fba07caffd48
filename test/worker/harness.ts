import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Command, Report, Task } from "../../src/contracts.ts";
import type { Manifest } from "../../src/sink/manifest.ts";
import type { Store } from "../../src/sink/store.ts";
import { type Surroundings, system } from "../../src/surroundings.ts";
import { runWorker } from "../../src/worker/main.ts";
import { gunzipOnce, type Place, readAll } from "../sink/stores.ts";

let exports = 0;

/** A purge waits minutes for requests that are under way. Here none takes a second. */
const hasty: Surroundings = {
  ...system,
  clock: { ...system.clock, sleep: (ms, signal) => system.clock.sleep(Math.min(ms, 1000), signal) },
};

/** One export, run command by command in this process as an operator would: the Task file, the environment, exit code
 *  and termination message. */
export class Export {
  readonly task: Task;
  readonly place: Place;

  constructor(
    place: Place,
    baseURL: string,
    change: { export?: Partial<Task["export"]>; source?: Partial<Task["source"]>; plan?: Partial<Task["plan"]> } = {},
  ) {
    this.place = place;
    this.task = {
      v: 1,
      uid: `uid-${++exports}`,
      name: "test",
      createdAt: "2026-01-01T00:00:00.000Z",
      attempt: 1,
      export: {
        level: "System",
        gzip: false,
        maxFileBytes: 1 << 30,
        onResourceError: "Record",
        request: "https://fhir.example/$export",
        ...change.export,
      },
      source: {
        baseURL,
        auth: { kind: "none" },
        count: 100,
        settleSeconds: 0,
        history: true,
        retrySeconds: 1,
        share: { requests: 4 },
        ...change.source,
      },
      target: place.target,
      plan: { shardResources: 500, inlineResources: 0, parallelism: 4, ...change.plan },
    };
  }

  /** the environment of one run; the Task and its Secrets are files, as in a pod */
  async environment(index = 0): Promise<Record<string, string>> {
    const folder = this.place.secrets;
    await mkdir(join(folder, "source"), { recursive: true });
    await writeFile(join(folder, "task.json"), JSON.stringify(this.task));
    return {
      FHIR_EXPORT_TASK: join(folder, "task.json"),
      FHIR_EXPORT_UID: this.task.uid,
      FHIR_EXPORT_TERMINATION: join(folder, `termination-${index}`),
      FHIR_EXPORT_LOG_LEVEL: "silent",
      JOB_COMPLETION_INDEX: String(index),
    };
  }

  async run(
    command: Command,
    index = 0,
    signal = new AbortController().signal,
  ): Promise<{ code: number; report: Report }> {
    const env = await this.environment(index);
    const code = await runWorker(command, env, signal, hasty);
    const message = code === 143 ? "{}" : await readFile(env.FHIR_EXPORT_TERMINATION!, "utf8");
    return { code, report: JSON.parse(message) as Report };
  }

  /** plan, every package, seal; stops at the first that does not exit 0 */
  async all(): Promise<{ code: number; report: Report; packages: number }> {
    const planned = await this.run("plan");
    const packages = planned.report.packages ?? 0;
    if (planned.code !== 0) return { ...planned, packages };
    for (let index = 0; index < packages; index++) {
      const exported = await this.run("export", index);
      if (exported.code !== 0) return { ...exported, packages };
    }
    return { ...(await this.run("seal")), packages };
  }
}

/** the lines of all output files, by `Type/id` */
export async function linesOf(
  store: Store,
): Promise<{ manifest: Manifest; lines: Map<string, string>; doubled: string[] }> {
  const manifest = JSON.parse((await store.read("manifest.json"))!.bytes.toString()) as Manifest;
  const lines = new Map<string, string>();
  const doubled: string[] = [];
  for (const { path } of manifest.output) {
    const bytes = (await readAll(store, path))!;
    const text = (path.endsWith(".gz") ? gunzipOnce(bytes) : bytes).toString();
    for (const line of text.split("\n").slice(0, -1)) {
      const { resourceType, id } = JSON.parse(line) as { resourceType: string; id: string };
      if (lines.has(`${resourceType}/${id}`)) doubled.push(`${resourceType}/${id}`);
      lines.set(`${resourceType}/${id}`, line);
    }
  }
  return { manifest, lines, doubled };
}
