import { readFile } from "node:fs/promises";
import { sha256Of } from "../digest.ts";
import { terminal, toFailure } from "../failure.ts";
import type { Logger } from "../log.ts";

/** A mounted Secret or ConfigMap swaps a link, which no watch of a file sees on all file systems: it is read again so often. */
const configPollMs = 2000;

const unreadable = (error: NodeJS.ErrnoException) =>
  terminal("UnsupportedParameter", `the file that --config names cannot be read (${error.code})`, error);

/** A configuration that follows its file without restart. A bad file changes nothing, and is told of once. */
export class ConfigFile<Value> {
  /** why the file cannot be used as it is now */
  problem: string | undefined;
  readonly #path: string;
  readonly #parse: (text: string) => Value;
  readonly #log: Logger;
  readonly #timer: NodeJS.Timeout;
  #value: Value;
  #text: string;

  /** @throws what `parse` does, or terminal: there is nothing older to go on with */
  static async open<Value>(path: string, parse: (text: string) => Value, log: Logger): Promise<ConfigFile<Value>> {
    const text = await readFile(path, "utf8").catch((error) => Promise.reject(unreadable(error)));
    return new ConfigFile(path, parse, log, text);
  }

  private constructor(path: string, parse: (text: string) => Value, log: Logger, text: string) {
    this.#path = path;
    this.#parse = parse;
    this.#log = log;
    this.#text = text;
    this.#value = parse(text);
    this.#tell(text);
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
      this.#tell(text);
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

  #tell(text: string): void {
    this.#log.info({ sha256: sha256Of(text).slice(0, 12) }, "configuration read");
  }
}
