import type { Command } from "../contracts.ts";
import type { CommandResult, Work } from "./work.ts";

export type WorkerCommand = (work: Work) => Promise<CommandResult>;

/** The worker's commands. A command's code is loaded when the command is run, so that a process holds no other's. */
export const commands: Record<Command, () => Promise<WorkerCommand>> = {
  plan: async () => (await import("./inline.ts")).planAndSmallExport,
  export: async () => (await import("./export.ts")).exportPackage,
  seal: async () => (await import("./seal/seal.ts")).seal,
  purge: async () => (await import("./purge.ts")).purgeExport,
  verify: async () => (await import("./verify.ts")).verify,
};
