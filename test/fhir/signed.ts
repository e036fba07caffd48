import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after } from "node:test";
import { exportJWK, generateKeyPair, type JWK } from "jose";
import type { Task } from "../../src/contracts.ts";
import { FailureError } from "../../src/failure.ts";
import { SourceClient } from "../../src/fhir/client.ts";

type Auth = Task["source"]["auth"];

/** Makes clients of a source that has the files of its Secret, as a worker pod has them. A hook removes the files. */
export function signedClients() {
  const closing: (() => Promise<unknown>)[] = [];
  after(async () => {
    for (const close of closing) await close();
  });
  return async (
    baseURL: string,
    auth: Auth,
    files: Record<string, string> = {},
    source: Partial<Task["source"]> = {},
  ) => {
    const folder = await mkdtemp(join(tmpdir(), "fhir-export-"));
    await mkdir(join(folder, "source"));
    const write = (name: string, text: string | undefined) =>
      text === undefined ? rm(join(folder, "source", name)) : writeFile(join(folder, "source", name), text);
    for (const [name, text] of Object.entries(files)) await write(name, text);
    const whole = {
      baseURL,
      auth,
      count: 10,
      settleSeconds: 0,
      history: false,
      retrySeconds: 1,
      share: { requests: 4 },
      ...source,
    };
    const client = new SourceClient(whole, folder, new AbortController().signal);
    closing.push(
      () => client.close(),
      () => rm(folder, { recursive: true }),
    );
    return {
      client,
      write,
      /** Reads one page of patients. @returns its status */
      get: () => client.get("Patient?_count=1", ({ status }) => status, { purpose: "probe" }),
    };
  };
}

/** The error of a call, which must be a FailureError. */
export async function failureOf(call: Promise<unknown>): Promise<FailureError> {
  const error = await call.then(
    (value) => new Error(`it answered ${JSON.stringify(value)}`),
    (error: unknown) => error,
  );
  if (error instanceof FailureError) return error;
  throw error;
}

/** A key pair for SMART, as JWKs with kid and alg. */
export async function makeKeys(
  alg: "RS384" | "ES384",
  kid: string = alg,
): Promise<{ publicKey: JWK; privateKey: JWK }> {
  const pair = await generateKeyPair(alg, { extractable: true });
  const [publicKey, privateKey] = await Promise.all([exportJWK(pair.publicKey), exportJWK(pair.privateKey)]);
  return { publicKey: { ...publicKey, kid, alg, use: "sig" }, privateKey: { ...privateKey, kid, alg } };
}
