import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import type { FhirExportRun } from "../../src/api/fhirexport.gen.ts";
import type { Task } from "../../src/contracts.ts";
import { Folders } from "../../src/standalone/folders.ts";

const root = mkdtempSync(join(tmpdir(), "fhir-export-"));
after(() => rmSync(root, { recursive: true }));

test("an attempt's folder has of each Secret only the keys that the attempt needs", () => {
  const folders = new Folders(root);
  folders.writeSecret("creds", { token: "t", "ca.crt": "not this one", other: "x" });
  folders.writeSecret("ca", { "ca.crt": "ca", "tls.crt": "not this one", "tls.key": "not this one" });
  folders.writeSecret("tls", { "tls.crt": "crt", "tls.key": "key", "ca.crt": "not this one" });
  folders.writeSecret("gateway", { key: "abc", other: "not this one" });
  folders.writeSecret("proxy", { username: "u", password: "p", token: "not this one" });
  folders.writeSecret("storage", { "sas-token": "sas", token: "not this one" });
  const run = {
    sourceSecret: "creds",
    sourceCA: { kind: "Secret", name: "ca" },
    sourceCertificate: "tls",
    sourceHeaders: [{ index: 3, name: "gateway", key: "key" }],
    sourceProxy: "proxy",
    targetSecret: "storage",
  };
  folders.layOut("x-task-1", { v: 1 } as Task, run as FhirExportRun);
  const filesOf = (name: string) => {
    const folder = join(folders.attempt("x-task-1"), name);
    return Object.fromEntries(readdirSync(folder).map((file) => [file, readFileSync(join(folder, file), "utf8")]));
  };
  assert.deepEqual(filesOf("source"), {
    token: "t",
    "ca.crt": "ca",
    "tls.crt": "crt",
    "tls.key": "key",
    "header-3": "abc",
    "proxy-username": "u",
    "proxy-password": "p",
  });
  assert.deepEqual(filesOf("target"), { "sas-token": "sas" });
});
