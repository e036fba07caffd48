import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Task } from "../contracts.ts";
import { terminal } from "../failure.ts";

/** The `authorization` header for the next request. Files are read at each use, so a rotated Secret counts at once. */
export type Authorize = () => Promise<string | undefined>;

/** @param folder the Task's folder; credentials are files below `source/` (contracts.ts)
 *  @throws terminal SourceUnauthorized at use, naming the missing Secret key */
export function authorizer(auth: Task["source"]["auth"], folder: string): Authorize {
  const secret = async (file: string) => {
    try {
      return (await readFile(join(folder, "source", file), "utf8")).trim();
    } catch (cause) {
      throw terminal("SourceUnauthorized", `the Secret of the FhirSource's auth.${auth.kind} has no key "${file}"`, cause);
    }
  };
  switch (auth.kind) {
    case "none":
      return async () => undefined;
    case "basic":
      return async () => `Basic ${Buffer.from(`${await secret("username")}:${await secret("password")}`).toString("base64")}`;
    case "bearer":
      return async () => `Bearer ${await secret("token")}`;
    default:
      throw terminal("SourceUnauthorized", `this version cannot use auth.${auth.kind} of the FhirSource; use none, basic or bearer`);
  }
}
