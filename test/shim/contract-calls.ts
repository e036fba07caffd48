// What the tests of the contract call: the service somewhere, and a client of it.
import assert from "node:assert/strict";
import { expected, type Wanted } from "../sources/expected.ts";
import type { Source } from "../sources/server.ts";
import type { BulkClient, BulkManifest, Issue, KickOff, Refused } from "./bulk-client.ts";

export interface Backend {
  /** The FHIR base as clients see it. */
  base: string;
  /** Bases of other replicas, which give the same answers. */
  others: string[];
  source: Source;
  /** Where the service finds the files that its configuration names. */
  folder: string;
  /** Replaces the service's configuration file. */
  write(text: string): Promise<void>;
  /** Replaces the file and waits until every replica has read it. */
  configure(text: string): Promise<void>;
  /** Logs of all replicas. */
  output(): string;
  close(): Promise<void>;
}

export type KickOffParameters = (readonly [string, string])[];

/** Backend and client are there once the suite has begun. */
export interface Calls {
  backend(): Backend;
  client(): BulkClient;
  /** Sends a kick-off that must be refused. */
  refused(kickOff: KickOff): Promise<Refused>;
  /** Sends a kick-off that must be accepted.
   *  @returns its status URL */
  accepted(kickOff: KickOff): Promise<string>;
  /** Exports, and compares every line with what the source holds. */
  same(kickOff: KickOff, wanted: Wanted): Promise<{ manifest: BulkManifest; errors: Issue[] }>;
}

export function callsOf(backend: () => Backend, client: () => BulkClient): Calls {
  return {
    backend,
    client,
    refused: async (kickOff) => {
      const answer = await client().kickOff(kickOff);
      assert(typeof answer !== "string", "it was accepted");
      return answer;
    },
    accepted: async (kickOff) => {
      const answer = await client().kickOff(kickOff);
      assert(typeof answer === "string", typeof answer === "string" ? "" : JSON.stringify(answer.issues));
      return answer;
    },
    same: async (kickOff, wanted) => {
      const { lines, ...rest } = await client().export(kickOff);
      const all = expected(backend().source, wanted);
      assert(all.size > 0);
      assert.deepEqual([...lines.keys()].sort(), [...all.keys()].sort());
      for (const [key, line] of all) assert.equal(lines.get(key), line.toString());
      return rest;
    },
  };
}

export const textOf = ({ issues }: Refused): string => issues.map(({ diagnostics }) => diagnostics).join("; ");
