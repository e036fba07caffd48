import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Task } from "../../contracts.ts";
import { terminal } from "../../failure.ts";
import { checkToken, type ReadSecret, type SourceCredentials } from "./credentials.ts";
import { TokenHolder } from "./holder.ts";

/** Opens the credentials that the Task's `source.auth` names.
 *  @param folder the folder of the Task; the Secret's keys are files in its folder `source/` (see contracts.ts)
 *  @param signal ends requests to a token endpoint that are under way */
export function openCredentials(source: Task["source"], folder: string, signal: AbortSignal): SourceCredentials {
  const { auth } = source;
  const secret = secretReader(auth.kind, folder, signal);
  switch (auth.kind) {
    case "none":
      return { header: async () => undefined, renew: async () => false, close: async () => {} };
    case "basic":
      return headerFromFiles(
        async () =>
          `Basic ${Buffer.from(`${await secret("username")}:${await secret("password")}`).toString("base64")}`,
      );
    case "bearer":
      return headerFromFiles(
        async () =>
          `Bearer ${checkToken(await secret("token"), 'key "token" in the Secret of the FhirSource\'s auth.bearer')}`,
      );
    case "oauth2":
    case "smart": {
      let opened: ReturnType<typeof openTokenEndpoint> | undefined;
      return new TokenHolder(
        async () => (await (opened ??= openTokenEndpoint(source, folder, signal, secret))).fetch(),
        async () =>
          opened?.then(
            ({ close }) => close(),
            () => {},
          ),
      );
    }
    case "workloadIdentity":
      return new TokenHolder(async () => {
        // The library (MSAL) takes long to load, and most sources do not need it.
        const { identityToken } = await import("../../identity.ts");
        return identityToken("source", auth.scope ?? "", { abortSignal: signal }, auth.clientID);
      });
  }
}

/** @returns reads a key of the source's Secret. It throws terminal SourceUnauthorized where the key is missing or
 *    empty. */
function secretReader(kind: Task["source"]["auth"]["kind"], folder: string, signal: AbortSignal): ReadSecret {
  const read = (key: string) => readFile(join(folder, "source", key), "utf8").then((text) => text.trim());
  return async (key) => {
    const secret = `the Secret of the FhirSource's auth.${kind}`;
    let text = await read(key).catch(() => "");
    if (text === "") {
      // Kubernetes replaces all files of a Secret at once, but a file that a person writes is empty for a moment.
      await sleep(100, undefined, { signal });
      text = await read(key).catch((cause) => {
        throw terminal("SourceUnauthorized", `${secret} has no key "${key}"; add it`, cause);
      });
    }
    if (text === "") throw terminal("SourceUnauthorized", `key "${key}" in ${secret} is empty; give it a value`);
    return text;
  };
}

/** Loads what talks to a token endpoint only when it is needed: undici and jose take 40 MiB, and most sources need
 *  neither. */
async function openTokenEndpoint(source: Task["source"], folder: string, signal: AbortSignal, secret: ReadSecret) {
  const { clientSecretToken, TokenClient } = await import("./oauth2.ts");
  const client = new TokenClient(source, folder, signal);
  const token = source.auth.kind === "smart" ? (await import("./smart.ts")).smartToken : clientSecretToken;
  return { fetch: token(client, source.auth, secret), close: () => client.close() };
}

/** Credentials that are read from files each time. After a rotation, a 401 means that the old ones were sent. */
function headerFromFiles(header: () => Promise<string>): SourceCredentials {
  return { header, renew: async (sent) => (await header()) !== sent, close: async () => {} };
}
