import { randomUUID } from "node:crypto";
import type { DatabaseSync } from "node:sqlite";
import { toSeconds } from "../api/conditions.ts";
import type { ExportTarget } from "../api/exporttarget.gen.ts";
import type { FhirExport } from "../api/fhirexport.gen.ts";
import type { FhirSource } from "../api/fhirsource.gen.ts";
import type { ObjectMeta } from "../api/meta.ts";
import { apiVersion } from "../api/names.ts";
import { same } from "../api/rules.ts";
import { terminal, transient } from "../failure.ts";
import { transaction } from "./database.ts";

export interface Kinds {
  FhirExport: FhirExport;
  FhirSource: FhirSource;
  ExportTarget: ExportTarget;
}
export type Kind = keyof Kinds;
type New<K extends Kind> = { metadata: Pick<ObjectMeta, "name" | "labels" | "annotations">; spec: Kinds[K]["spec"] };
type Validate = (object: unknown, old?: unknown) => string[];
interface Raw {
  metadata: ObjectMeta;
  spec: unknown;
  status?: unknown;
}

/** the namespace of all objects of a standalone */
export const namespace = "standalone";

/** The objects of a standalone, with the rules of the API server: they are validated and versioned, and finalizers hold
 *  them. All objects that it returns are copies. */
export class Objects {
  readonly #database: DatabaseSync;
  readonly #validate: Validate;
  readonly #listeners: ((kind: Kind, object: Kinds[Kind], gone: boolean) => void)[] = [];

  constructor(database: DatabaseSync, validate: Validate) {
    this.#database = database;
    this.#validate = validate;
  }

  /** @param listener called after each change; `gone` = the object was removed, and this is its last state */
  onChange(listener: (kind: Kind, object: Kinds[Kind], gone: boolean) => void): void {
    this.#listeners.push(listener);
  }

  get<K extends Kind>(kind: K, name: string): Kinds[K] | undefined {
    const row = this.#database.prepare("SELECT json FROM objects WHERE kind = ? AND name = ?").get(kind, name);
    return row && JSON.parse(row.json as string);
  }

  list<K extends Kind>(kind: K): Kinds[K][] {
    const rows = this.#database.prepare("SELECT json FROM objects WHERE kind = ? ORDER BY name").all(kind);
    return rows.map((row) => JSON.parse(row.json as string));
  }

  /** Makes an object. @returns undefined when the name is taken. @throws terminal UnsupportedParameter when it is
   *  invalid */
  create<K extends Kind>(kind: K, { metadata, spec }: New<K>): Kinds[K] | undefined {
    const made = structuredClone({
      apiVersion,
      kind,
      metadata: { ...metadata, namespace, uid: randomUUID(), generation: 1, creationTimestamp: toSeconds(new Date()) },
      spec,
    }) as unknown as Kinds[K];
    this.#check(made);
    const stored = transaction(this.#database, () =>
      this.get(kind, metadata.name) ? undefined : this.#write(kind, made),
    );
    if (stored) this.#tell(kind, stored, false);
    return stored;
  }

  /** Changes spec and metadata; the status stays.
   *  @param resourceVersion if given, only this version is changed
   *  @throws transient when the object was changed meanwhile or is gone, terminal when the result is invalid */
  update<K extends Kind>(
    kind: K,
    name: string,
    change: (object: Kinds[K]) => void,
    resourceVersion?: string,
  ): Kinds[K] {
    return this.#change(kind, name, resourceVersion, (old) => {
      const next = structuredClone(old) as Kinds[K] & Raw;
      change(next);
      const { uid, creationTimestamp, deletionTimestamp, generation = 1 } = old.metadata;
      Object.assign(next.metadata, { name, namespace, uid, creationTimestamp, deletionTimestamp, generation });
      if (old.status) next.status = old.status;
      this.#check(next, old);
      if (!same(next.spec, old.spec)) next.metadata.generation = generation + 1;
      return next;
    });
  }

  /** Replaces only the status, and only of the object's resourceVersion. @throws as update does */
  updateStatus<K extends Kind>(kind: K, object: Kinds[K], status: NonNullable<Kinds[K]["status"]>): Kinds[K] {
    return this.#change(kind, object.metadata.name, object.metadata.resourceVersion, (old) => {
      const next = { ...old, status: structuredClone(status) } as Kinds[K];
      this.#check(next, old);
      return next;
    });
  }

  /** Removes an object or, while finalizers hold it, marks it as being deleted. If it is gone already, nothing
   *  happens. */
  delete(kind: Kind, name: string): void {
    const old = this.get(kind, name);
    if (!old) return;
    this.#change(kind, name, old.metadata.resourceVersion, (object) => {
      if (object.metadata.deletionTimestamp) return object;
      const { generation = 1 } = object.metadata;
      const deletionTimestamp = toSeconds(new Date());
      return { ...object, metadata: { ...object.metadata, deletionTimestamp, generation: generation + 1 } };
    });
  }

  #change<K extends Kind>(
    kind: K,
    name: string,
    resourceVersion: string | undefined,
    make: (old: Kinds[K]) => Kinds[K],
  ): Kinds[K] {
    const { next, changed, gone } = transaction(this.#database, () => {
      const old = this.get(kind, name);
      if (!old) throw transient("Internal", `${kind} ${name} does not exist any more`);
      if (resourceVersion !== undefined && resourceVersion !== old.metadata.resourceVersion)
        throw transient("Internal", `${kind} ${name} was changed meanwhile`);
      const next = make(old);
      const gone = next.metadata.deletionTimestamp !== undefined && !next.metadata.finalizers?.length;
      if (gone) this.#database.prepare("DELETE FROM objects WHERE kind = ? AND name = ?").run(kind, name);
      const changed = gone || !same(next, old);
      return { next: changed && !gone ? this.#write(kind, next) : next, changed, gone };
    });
    if (changed) this.#tell(kind, next, gone);
    return next;
  }

  /** Stores an object under the next version; to be called inside a transaction. */
  #write<K extends Kind>(kind: K, object: Kinds[K]): Kinds[K] {
    const { value } = this.#database.prepare("UPDATE counter SET value = value + 1 RETURNING value").get() as {
      value: number;
    };
    const stored = { ...object, metadata: { ...object.metadata, resourceVersion: String(value) } };
    this.#database
      .prepare("INSERT OR REPLACE INTO objects VALUES (?, ?, ?)")
      .run(kind, object.metadata.name, JSON.stringify(stored));
    return stored;
  }

  #check(object: unknown, old?: unknown): void {
    const faults = this.#validate(object, old);
    if (faults.length) throw terminal("UnsupportedParameter", faults.join("; "));
  }

  #tell(kind: Kind, object: Kinds[Kind], gone: boolean): void {
    for (const listener of this.#listeners) listener(kind, object, gone);
  }
}
