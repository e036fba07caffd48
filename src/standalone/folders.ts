import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import type { FhirExportRun } from "../api/fhirexport.gen.ts";
import type { Task } from "../contracts.ts";
import { terminal } from "../failure.ts";

/** Keys of the Secrets, which are the names of the files that workers read (contracts.ts). */
const sourceKeys = ["username", "password", "token", "client-secret", "private-key.jwk"];
const targetKeys = ["connection-string", "sas-token"];

/** The folders below the data folder of a standalone: one per Secret, and one per attempt with the same layout as the
 *  volume of a worker pod. */
export class Folders {
  readonly #data: string;

  constructor(data: string) {
    this.#data = resolve(data);
    for (const name of ["secrets", "runs"]) mkdirSync(join(this.#data, name), { recursive: true, mode: 0o700 });
  }

  get secrets(): string {
    return join(this.#data, "secrets");
  }

  secret(name: string): string {
    return join(this.secrets, name);
  }

  /** Makes a Secret whose keys are links to the user's files, so that a worker reads a rotated file at once.
   *  @throws terminal when a file does not exist */
  linkSecret(name: string, files: Record<string, string>): void {
    const folder = this.#emptySecret(name);
    for (const [key, file] of Object.entries(files)) {
      if (!existsSync(file) || !statSync(file).isFile())
        throw terminal("Internal", `the file ${file} does not exist; check the path in the options`);
      symlinkSync(resolve(file), join(folder, key));
    }
  }

  /** Makes a Secret of text, which was given by an environment variable. */
  writeSecret(name: string, files: Record<string, string>): void {
    const folder = this.#emptySecret(name);
    for (const [key, text] of Object.entries(files)) writeFileSync(join(folder, key), text, { mode: 0o600 });
  }

  #emptySecret(name: string): string {
    const folder = this.secret(name);
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder, { mode: 0o700 });
    return folder;
  }

  /** The folder where the runs of an attempt find their Task. */
  attempt(taskName: string): string {
    return join(this.#data, "runs", taskName);
  }

  /** Makes an attempt's folder with its Task and links to its Secrets. If the folder exists, it stays as it is, like
   *  the immutable Secret on Kubernetes. */
  layOut(taskName: string, task: Task, run: FhirExportRun): void {
    const folder = this.attempt(taskName);
    if (existsSync(folder)) return;
    const draft = `${folder}.draft`;
    rmSync(draft, { recursive: true, force: true });
    mkdirSync(draft, { mode: 0o700 });
    for (const name of ["source", "target"]) mkdirSync(join(draft, name), { mode: 0o700 });
    this.#linkKeys(join(draft, "source"), sourceKeys, run.sourceSecret);
    this.#linkKeys(join(draft, "source"), ["ca.crt"], run.sourceCA?.name);
    this.#linkKeys(join(draft, "source"), ["tls.crt", "tls.key"], run.sourceCertificate);
    for (const { index, name, key } of run.sourceHeaders ?? [])
      symlinkSync(join(this.secret(name), key), join(draft, "source", `header-${index}`));
    for (const key of run.sourceProxy ? ["username", "password"] : [])
      symlinkSync(join(this.secret(run.sourceProxy!), key), join(draft, "source", `proxy-${key}`));
    this.#linkKeys(join(draft, "target"), targetKeys, run.targetSecret);
    writeFileSync(join(draft, "task.json"), JSON.stringify(task), { mode: 0o600, flush: true });
    renameSync(draft, folder);
  }

  #linkKeys(folder: string, keys: string[], secret: string | undefined): void {
    for (const key of keys)
      if (secret && existsSync(join(this.secret(secret), key)))
        symlinkSync(join(this.secret(secret), key), join(folder, key));
  }

  removeAttempt(taskName: string): void {
    rmSync(this.attempt(taskName), { recursive: true, force: true });
  }

  attempts(): string[] {
    return readdirSync(join(this.#data, "runs"));
  }
}
