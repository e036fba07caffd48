import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { terminal } from "../failure.ts";

/** Opens (or makes) the state of a standalone in its data folder. One process at a time: the lock goes with the process, also by kill -9.
 *  @throws terminal when another one holds it */
export function openDatabase(folder: string): DatabaseSync {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const database = new DatabaseSync(join(folder, "state.db"));
  try {
    // exclusive before WAL: then there is no shared memory, and a second process gets an error at once
    database.exec(`
      PRAGMA locking_mode = EXCLUSIVE;
      PRAGMA journal_mode = WAL;
      PRAGMA synchronous = FULL;
      CREATE TABLE IF NOT EXISTS counter (value INTEGER NOT NULL);
      INSERT INTO counter SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM counter);
      CREATE TABLE IF NOT EXISTS objects (kind TEXT, name TEXT, json TEXT NOT NULL, PRIMARY KEY (kind, name)) WITHOUT ROWID;
      CREATE TABLE IF NOT EXISTS runs (name TEXT PRIMARY KEY, uid TEXT NOT NULL UNIQUE, export TEXT NOT NULL, json TEXT NOT NULL) WITHOUT ROWID;
      CREATE TABLE IF NOT EXISTS indexes (run TEXT, number INTEGER, json TEXT NOT NULL, PRIMARY KEY (run, number)) WITHOUT ROWID;
    `);
  } catch (error) {
    database.close();
    if (/locked/.test((error as Error).message))
      throw terminal("Internal", `another fhir-export standalone uses the data folder ${folder}`);
    throw error;
  }
  return database;
}

/** All of `work`, or nothing of it. */
export function transaction<Result>(database: DatabaseSync, work: () => Result): Result {
  database.exec("BEGIN IMMEDIATE");
  try {
    const result = work();
    database.exec("COMMIT");
    return result;
  } catch (error) {
    database.exec("ROLLBACK");
    throw error;
  }
}
