import type { Replay } from "../../../src/shim/auth/replay.ts";

/** Remembers used assertions in one process. */
export function memoryReplay(): Replay {
  const used = new Set<string>();
  return {
    first: async (issuer, jti) => {
      const key = JSON.stringify([issuer, jti]);
      return !used.has(key) && Boolean(used.add(key));
    },
  };
}
