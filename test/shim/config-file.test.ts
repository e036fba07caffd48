import assert from "node:assert/strict";
import { mkdtemp, rename, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { makeLogger } from "../../src/log.ts";
import { ConfigFile } from "../../src/shim/config-file.ts";
import { parseSettings } from "../../src/shim/settings.ts";

suite("the configuration file", () => {
  let folder: string;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "fhir-export-config-"));
  });
  after(() => rm(folder, { recursive: true, force: true }));
  const log = makeLogger({}, "silent");

  test("is read again when it changes, also when a mount swaps a link", async () => {
    const path = join(folder, "a.yaml");
    await writeFile(join(folder, "one"), "compat: azure");
    await writeFile(join(folder, "two"), "compat: ig");
    await symlink(join(folder, "one"), path);
    const config = await ConfigFile.open(path, parseSettings, log);
    assert.equal(config.value.compat, "azure");
    await symlink(join(folder, "two"), `${path}.new`);
    await rename(`${path}.new`, path);
    await config.look();
    assert.equal(config.value.compat, "ig");
    config.close();
  });

  test("when wrong or missing, leaves the old settings in force and says why until it is mended", async () => {
    const path = join(folder, "b.yaml");
    await writeFile(path, "compat: azure");
    const config = await ConfigFile.open(path, parseSettings, log);
    await writeFile(path, "compat: [");
    await config.look();
    assert.match(config.problem!, /not YAML/);
    assert.equal(config.value.compat, "azure");
    await rm(path);
    await config.look();
    assert.match(config.problem!, /cannot be read/);
    await writeFile(path, "compat: ig");
    await config.look();
    assert.equal(config.problem, undefined);
    assert.equal(config.value.compat, "ig");
    config.close();
  });

  test("must be usable at the start", async () => {
    await assert.rejects(ConfigFile.open(join(folder, "none"), parseSettings, log), /cannot be read \(ENOENT\)/);
    await writeFile(join(folder, "c.yaml"), "x: 1");
    await assert.rejects(ConfigFile.open(join(folder, "c.yaml"), parseSettings, log), /\(x\)/);
  });
});
