/** There is one node at a time on a machine, as pods have cgroups that all kubelets share. A record says which process
 *  it belongs to, so that the next start can end the node of a killed run. */
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import type { Process } from "./namespaces.ts";

export interface NodeRecord {
  /** the process that started the node */
  owner: Process;
  /** folder with the node's files */
  folder: string;
  /** folder with the logs of its servers and of spawned programs */
  logs: string;
  /** process that holds the namespaces; absent for a moment at the start */
  holder?: Process;
  parent?: Process;
  /** its network namespace, as /proc shows it: processes in it are the node's */
  network?: string;
  /** settings of the machine, as they were before the start */
  sysctls: { [path: string]: string };
}

const file = "/run/fhir-export-node.json";

export function readRecord(): NodeRecord | undefined {
  try {
    return JSON.parse(readFileSync(file, "utf8")) as NodeRecord;
  } catch {
    // There is no record, or its writer was killed while it wrote it, before it started anything.
    return undefined;
  }
}

export const writeRecord = (record: NodeRecord): void => writeFileSync(file, JSON.stringify(record), { mode: 0o600 });
export const removeRecord = (): void => rmSync(file, { force: true });

/** Runs `act` while no other process runs one. The lock is a socket without a file, which the system drops with its
 *  process. */
export async function alone<Result>(act: () => Promise<Result>): Promise<Result> {
  const lock = createServer();
  for (const deadline = Date.now() + 60_000; ; await sleep(50)) {
    const error = await new Promise<NodeJS.ErrnoException | undefined>((resolve) => {
      lock.once("error", resolve);
      lock.listen("\0fhir-export-node", () => resolve(undefined));
    });
    lock.removeAllListeners("error");
    if (!error) break;
    if (error.code !== "EADDRINUSE" || Date.now() > deadline) throw error;
  }
  try {
    return await act();
  } finally {
    await new Promise((resolve) => lock.close(resolve));
  }
}
