import { readFile } from "node:fs/promises";
import { sha256Of } from "../digest.ts";
import { terminal, toFailure } from "../failure.ts";
import type { Logger } from "../log.ts";

/** How often the file is read again. A mounted Secret or ConfigMap is changed by swapping a link, and no watch of a
 *  file sees that on all file systems. */
const configPollMs = 2000;

const unreadableConfig = (error: NodeJS.ErrnoException) =>
  terminal("UnsupportedParameter", `the file that --config names cannot be read (${error.code})`, error);

/** A configuration that follows its file without restart. A file that is wrong changes nothing and is logged once. */
export class ConfigFile<Value> {
  /** Why the file cannot be used as it is now; undefined: it is in force. */
  problem: string | undefined;
  readonly #path: string;
  readonly #parse: (text: string) => Value;
  readonly #log: Logger;
  readonly #timer: NodeJS.Timeout;
  #value: Value;
  #text: string;

  /** Reads the file for the first time.
   *  @throws terminal UnsupportedParameter when it cannot be read, and whatever `parse` throws: there is no older
   *    configuration to use instead */
  static async open<Value>(path: string, parse: (text: string) => Value, log: Logger): Promise<ConfigFile<Value>> {
    const text = await readFile(path, "utf8").catch((error) => Promise.reject(unreadableConfig(error)));
    return new ConfigFile(path, parse, log, text);
  }

  private constructor(path: string, parse: (text: string) => Value, log: Logger, text: string) {
    this.#path = path;
    this.#parse = parse;
    this.#log = log;
    this.#text = text;
    this.#value = parse(text);
    this.#logDigest(text);
    this.#timer = setInterval(() => void this.look(), configPollMs).unref();
  }

  get value(): Value {
    return this.#value;
  }

  /** Reads the file again; never fails. */
  async look(): Promise<void> {
    let text: string | undefined;
    try {
      text = await readFile(this.#path, "utf8");
      if (text === this.#text) return;
      this.#value = this.#parse(text);
      this.#text = text;
      this.problem = undefined;
      this.#logDigest(text);
    } catch (error) {
      const { message } = toFailure(error);
      const problem = text === undefined ? "the configuration file cannot be read" : message;
      if (problem !== this.problem)
        this.#log.error({ problem }, "the configuration is not usable; the one before stays in force");
      this.problem = problem;
    }
  }

  close(): void {
    clearInterval(this.#timer);
  }

  /** Its digest tells which version of the file is in force, without a secret. */
  #logDigest(text: string): void {
    this.#log.info({ sha256: sha256Of(text).slice(0, 12) }, "configuration read");
  }
}
