/** There is one node at a time on a machine, as pods have cgroups that all kubelets share. A record says whose it is, so that the next start can end what a
 *  killed run left. */
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import type { Process } from "./namespaces.ts";

export interface NodeRecord {
  /** the process that started the node */
  owner: Process;
  /** what of the node lies on the disk */
  folder: string;
  /** logs of its servers and of what was spawned on it */
  logs: string;
  /** absent for a moment at the start */
  holder?: Process;
  parent?: Process;
  /** its network namespace, as /proc shows it: what is in it is the node's */
  network?: string;
  /** settings of the machine before the start */
  sysctls: { [path: string]: string };
}

const file = "/run/fhir-export-node.json";

export function readRecord(): NodeRecord | undefined {
  try {
    return JSON.parse(readFileSync(file, "utf8")) as NodeRecord;
  } catch {
    // none, or one that its writer was killed in, before it started anything
    return undefined;
  }
}

export const writeRecord = (record: NodeRecord): void => writeFileSync(file, JSON.stringify(record), { mode: 0o600 });
export const removeRecord = (): void => rmSync(file, { force: true });

/** Runs while no other process is in here. The lock is a socket without a file, which the system drops with its process. */
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
