import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Task } from "../../contracts.ts";
import { terminal } from "../../failure.ts";
import { TokenHolder } from "./holder.ts";

/** How requests to the source are signed in. */
export interface Credentials {
  /** The `authorization` header for the next request; undefined = none.
   *  @throws terminal SourceUnauthorized, naming the field or the Secret key to mend; transient while a token endpoint is out of service */
  header(): Promise<string | undefined>;
  /** The source answered 401 to what was sent. @returns whether header() has something else now, or can get it */
  renew(sent: string | undefined): Promise<boolean>;
  close(): Promise<void>;
}

/** Reads a file of the source's Secret. Read at each use, so a rotated Secret counts at once. */
export type ReadSecret = (key: string) => Promise<string>;

/** @param folder the Task's folder; credentials are files below `source/` (contracts.ts)
 *  @param signal ends what is under way */
export function credentials(source: Task["source"], folder: string, signal: AbortSignal): Credentials {
  const { auth } = source;
  const read = (key: string) => readFile(join(folder, "source", key), "utf8").then((text) => text.trim());
  const secret: ReadSecret = async (key) => {
    const of = `the Secret of the FhirSource's auth.${auth.kind}`;
    let text = await read(key).catch(() => "");
    if (text === "") {
      // Kubernetes swaps all files at once; one that a person writes is empty for a moment
      await sleep(100, undefined, { signal });
      text = await read(key).catch((cause) => {
        throw terminal("SourceUnauthorized", `${of} has no key "${key}"`, cause);
      });
    }
    if (text === "") throw terminal("SourceUnauthorized", `key "${key}" in ${of} is empty`);
    return text;
  };
  switch (auth.kind) {
    case "none":
      return { header: async () => undefined, renew: async () => false, close: async () => {} };
    case "basic":
      return fixed(
        async () =>
          `Basic ${Buffer.from(`${await secret("username")}:${await secret("password")}`).toString("base64")}`,
      );
    case "bearer":
      return fixed(
        async () =>
          `Bearer ${checkToken(await secret("token"), 'key "token" in the Secret of the FhirSource\'s auth.bearer')}`,
      );
    case "oauth2":
    case "smart": {
      let opened: ReturnType<typeof tokensOf> | undefined;
      return new TokenHolder(
        async () => (await (opened ??= tokensOf(source, folder, signal, secret))).fetch(),
        async () =>
          opened?.then(
            ({ close }) => close(),
            () => {},
          ),
      );
    }
    case "workloadIdentity":
      return new TokenHolder(async () => {
        // MSAL takes long to load, and most sources do not need it
        const { identityToken } = await import("../../identity.ts");
        return identityToken("source", auth.scope ?? "", { abortSignal: signal }, auth.clientID);
      });
  }
}

/** undici and jose take 40 MiB, and most sources do not need them. */
async function tokensOf(source: Task["source"], folder: string, signal: AbortSignal, secret: ReadSecret) {
  const { clientSecretToken, TokenClient } = await import("./oauth2.ts");
  const client = new TokenClient(source, folder, signal);
  const token = source.auth.kind === "smart" ? (await import("./smart.ts")).smartToken : clientSecretToken;
  return { fetch: token(client, source.auth, secret), close: () => client.close() };
}

/** What is in the files: after a rotation a 401 means that the old one was sent. */
function fixed(header: () => Promise<string>): Credentials {
  return { header, renew: async (sent) => (await header()) !== sent, close: async () => {} };
}

/** @throws terminal SourceUnauthorized where the text cannot be in a header, without showing it */
export function checkToken(text: string, what: string): string {
  if (!/^[\x21-\x7e]+$/.test(text)) throw terminal("SourceUnauthorized", `${what} holds characters that no token has`);
  return text;
}
