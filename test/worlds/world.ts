import type { Task } from "../../src/contracts.ts";
import type { Behaviour, Fault } from "../sources/faults.ts";
import type { SampleResource } from "../sources/generator.ts";
import type { Blow, Latency } from "./process.ts";

/** A write to the source. */
export interface Write {
  /** With which request to the source it happens, counted over all workers from 1; 0: before the export, `ago`
   *  milliseconds before it. */
  request: number;
  ago: number;
  type: string;
  id: string;
  /** the text of the resource; undefined: it is deleted */
  text: string | undefined;
}

/** A fault of storage. */
export interface StorageFault {
  /** With which request to storage it begins, counted over all workers from 1. */
  request: number;
  /** How many requests it hits. */
  times: number;
  /** `refuse`: nothing is done; `lose`: it is done, and the answer is lost; `dropBlocks`: uncommitted blocks go. */
  kind: "refuse" | "lose" | "dropBlocks";
}

/** All that happens in a world. It follows from its seed. */
export interface World {
  seed: number;
  /** the moment at which the export begins, in milliseconds since the epoch */
  begin: number;
  /** by how many milliseconds the source's clock, and that of the workers, are ahead */
  ahead: { source: number; worker: number };
  latency: Latency;
  behaviour: Behaviour;
  resources: SampleResource[];
  writes: Write[];
  faults: Fault[];
  storage: "azure" | "directory";
  storageFaults: StorageFault[];
  /** What befalls the processes, in the order in which they are started. */
  blows: Blow[][];
  /** With which request to storage the export is cancelled, if it is; its output is then removed. */
  cancel: number | undefined;
  export: Task["export"];
  source: Omit<Task["source"], "baseURL" | "auth">;
  plan: Task["plan"];
  /** bytes of a block */
  blockBytes: number;
}
