import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Task } from "../contracts.ts";
import { terminal } from "../failure.ts";

type HeaderList = NonNullable<Task["source"]["headers"]>;

/** The headers of `spec.headers` of a FhirSource. */
export class OwnHeaders {
  readonly #list: HeaderList;
  readonly #folder: string;
  #known: Readonly<Record<string, string>> = {};

  /** @param folder the folder of the Task; what Secrets hold is in its files source/header-{index} */
  constructor(list: HeaderList, folder: string) {
    this.#list = list;
    this.#folder = folder;
  }

  /** Reads what Secrets hold, so that a rotated one counts at once.
   *  @returns the same object while nothing has changed
   *  @throws terminal SourceUnauthorized, which names the header and not what it holds */
  read(): Readonly<Record<string, string>> {
    if (this.#list.length === 0) return this.#known;
    const headers: Record<string, string> = {};
    for (const [index, { name, value }] of this.#list.entries())
      headers[name.toLowerCase()] = value ?? this.#secret(index, name);
    const isSame = Object.entries(headers).every(([name, value]) => this.#known[name] === value);
    if (!isSame) this.#known = headers;
    return this.#known;
  }

  #secret(index: number, name: string): string {
    const where = `the Secret of header ${name} in spec.headers of the FhirSource`;
    let text: string;
    try {
      text = readFileSync(join(this.#folder, "source", `header-${index}`), "utf8").trim();
    } catch (cause) {
      throw terminal("SourceUnauthorized", `${where} has no such key; add it`, cause);
    }
    if (!/^[!-~](?:[ -~]*[!-~])?$/.test(text))
      throw terminal("SourceUnauthorized", `${where} is empty, or holds characters that no header may have`);
    return text;
  }
}
