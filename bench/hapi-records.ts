/** A HAPI FHIR server on PostgreSQL that holds the records of records.ts. They are loaded once: a copy of the database
 *  stays in the cache, and each run begins with it. */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { mkdir, mkdtemp, rename, rm } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { type Hapi, startHapi } from "../test/hapi/hapi.ts";
import { load } from "../test/hapi/load.ts";
import {
  analyzePostgres,
  initPostgres,
  type Postgres,
  postgresFolder,
  postgresVersion,
  startPostgres,
} from "../test/hapi/postgres.ts";
import { records } from "./records.ts";

/** resources of one transaction, with one lastUpdated */
export const transaction = 500;
const heap = "2g";

export interface Hospital extends AsyncDisposable {
  hapi: Hapi;
  /** absent: its database is in memory */
  postgres?: Postgres;
}

/** @param say takes what is being done, as loading takes minutes */
export async function openHospital(requestLog: string, say: (line: string) => void): Promise<Hospital> {
  const cached = cachedCluster();
  if (!existsSync(cached)) await loadRecords(cached, say);
  const folder = await postgresFolder();
  execFileSync("cp", ["-a", cached, join(folder, "data")]);
  const postgres = await startPostgres(folder);
  const close = async () => {
    await postgres.close();
    await rm(folder, { recursive: true, force: true });
  };
  try {
    const hapi = await startHapi({ heap, jdbc: postgres.jdbc, requestLog });
    return { hapi, postgres, [Symbol.asyncDispose]: () => hapi.close().then(close) };
  } catch (error) {
    await close();
    throw error;
  }
}

function cachedCluster(): string {
  const hash = createHash("sha256").update(readFileSync(join(import.meta.dirname, "records.ts")));
  const key = hash.update(`${transaction} ${postgresVersion()}`).digest("hex").slice(0, 16);
  return join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "fhir-export", `hapi-records-${key}`);
}

async function loadRecords(cached: string, say: (line: string) => void): Promise<void> {
  const folder = await postgresFolder();
  try {
    initPostgres(folder);
    // What a crash would lose is loaded anew.
    const postgres = await startPostgres(folder, { fsync: "off", synchronous_commit: "off", max_wal_size: "4GB" });
    try {
      const hapi = await startHapi({ heap, jdbc: postgres.jdbc });
      const started = performance.now();
      say("loading the records, once");
      await load(hapi.baseURL, records(), transaction).finally(() => hapi.close());
      say(`loaded in ${((performance.now() - started) / 1000).toFixed(0)} s`);
      analyzePostgres(postgres);
    } finally {
      await postgres.close();
    }
    await mkdir(dirname(cached), { recursive: true });
    const copy = await mkdtemp(`${cached}-`);
    execFileSync("cp", ["-a", join(folder, "data"), join(copy, "data")]);
    // If two load at the same time, the first one's stays.
    if (!existsSync(cached)) await rename(join(copy, "data"), cached);
    await rm(copy, { recursive: true, force: true });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
