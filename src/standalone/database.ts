import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { terminal } from "../failure.ts";

/** Opens the state of a standalone in its data folder, or makes it. One process at a time may open it; the lock is
 *  released with the process, even by kill -9.
 *  @throws terminal when another process has it open */
export function openDatabase(folder: string): DatabaseSync {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const database = new DatabaseSync(join(folder, "state.db"));
  try {
    // The mode is set to exclusive before WAL, so that SQLite uses no shared memory and a second process gets an error
    // at once.
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
      throw terminal(
        "Internal",
        `another fhir-export standalone uses the data folder ${folder}; stop it, or choose another folder by --data`,
      );
    throw error;
  }
  return database;
}

/** Does all of `work` or, if it throws, nothing of it. */
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
