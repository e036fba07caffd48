import type { DatabaseSync } from "node:sqlite";
import type { Replay } from "../shim/auth/replay.ts";

/** The assertions (a client's signed proofs) that a standalone has accepted. They outlive a restart. */
export class LocalReplay implements Replay {
  readonly #database: DatabaseSync;

  constructor(database: DatabaseSync) {
    this.#database = database;
    database.exec(
      "CREATE TABLE IF NOT EXISTS assertions (issuer TEXT, jti TEXT, expires INTEGER NOT NULL, PRIMARY KEY (issuer, jti)) WITHOUT ROWID",
    );
  }

  async first(issuer: string, jti: string, expires: Date): Promise<boolean> {
    this.#database.prepare("DELETE FROM assertions WHERE expires < ?").run(Date.now());
    const { changes } = this.#database
      .prepare("INSERT OR IGNORE INTO assertions VALUES (?, ?, ?)")
      .run(issuer, jti, expires.getTime());
    return changes === 1;
  }
}
