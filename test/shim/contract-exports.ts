// What an export over HTTP holds, from kick-off to the last byte: called from contract.ts.
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { expected } from "../sources/expected.ts";
import type { Calls, KickOffParameters } from "./contract-calls.ts";

export function exportsContract({ backend, client, same }: Calls): void {
  const types: KickOffParameters = [["_type", "Patient,Observation,Encounter"]];
  const wantedTypes = ["Patient", "Observation", "Encounter"];
  const levels = {
    System: { path: "/$export", wanted: {} },
    Patient: { path: "/Patient/$export", wanted: { level: "Patient" } },
    Group: { path: "/Group/ward/$export", wanted: { level: "Group", groupId: "ward" } },
  } as const;
  for (const [level, { path, wanted }] of Object.entries(levels))
    for (const method of ["GET", "POST"] as const)
      test(`R29, R30, R297-R299: level ${level} by ${method}, from kick-off to the last byte`, async () => {
        const { manifest, errors } = await same({ path, method, parameters: types }, { ...wanted, types: wantedTypes });
        assert.deepEqual([errors, manifest.deleted, manifest.requiresAccessToken], [[], [], false]);
        const query = method === "GET" ? "?_type=Patient%2CObservation%2CEncounter" : "";
        assert.equal(manifest.request, `${backend().base}${path}${query}`, "R155: the URL as it was called");
      });

  test("R32, R117: repeats of a parameter are a comma list; %24export is $export", async () => {
    await same(
      {
        path: "/%24export",
        parameters: [
          ["_type", "Patient"],
          ["_type", "Group"],
        ],
      },
      { types: ["Patient", "Group"] },
    );
  });

  test("R101: typeFilters of a type are OR, and commas in them are values", async () => {
    const filters = ["Observation?status=final,amended", "Observation?status=final"];
    const parameters: KickOffParameters = [
      ["_type", "Observation"],
      ...filters.map((filter) => ["_typeFilter", filter] as const),
    ];
    const is = (it: { status: string }) => ["final", "amended"].includes(it.status);
    await same(
      { path: "/Patient/$export", parameters },
      { level: "Patient", types: ["Observation"], filters: { Observation: [is] } },
    );
  });

  test("R83: some patients, by POST", async () => {
    const ids = [...expected(backend().source, { level: "Group", groupId: "ward", types: ["Patient"] }).keys()].slice(
      0,
      3,
    );
    const patients = ids.map((key) => key.slice("Patient/".length));
    const parameters = ids.map((key) => ["patient", key] as const);
    await same({ path: "/Patient/$export", method: "POST", parameters }, { level: "Patient", patients });
  });

  test("R73: elements, with the SUBSETTED tag", async () => {
    const { lines } = await client().export({
      path: "/$export",
      parameters: [
        ["_type", "Patient"],
        ["_elements", "gender"],
      ],
    });
    for (const line of lines.values()) {
      const patient = JSON.parse(line);
      assert.equal(patient.name, undefined);
      assert(patient.meta.tag.some(({ code }: { code: string }) => code === "SUBSETTED"));
    }
  });

  test("R53, R179: changes and deletions since a moment", async () => {
    const since = new Date().toISOString();
    await sleep(20);
    const [gone, changed] = [...backend().source.dump("Encounter").keys()].slice(0, 2) as [string, string];
    backend().source.delete("Encounter", gone.slice("Encounter/".length));
    backend().source.put(backend().source.dump("Encounter").get(changed)!.toString());
    // transactionTime is the end of a whole second
    await sleep(1100);
    const { lines, deleted } = await client().export({
      path: "/$export",
      parameters: [
        ["_type", "Encounter"],
        ["_since", since],
      ],
    });
    assert.deepEqual([...lines.keys()], [changed]);
    assert.deepEqual(deleted, [gone]);
  });

  test("R69, R197: each parameter that lenient handling dropped is one warning", async () => {
    const { errors } = await client().export({
      path: "/$export",
      parameters: [
        ["_type", "Group"],
        ["_foo", "p-1"],
        ["includeAssociatedData", "LatestProvenanceResources"],
      ],
      headers: { prefer: "respond-async, handling=lenient" },
    });
    assert.equal(errors.length, 2);
    assert.match(errors.map(({ diagnostics }) => diagnostics).join(), /_foo.*includeAssociatedData/s);
    assert(errors.every(({ severity, diagnostics }) => severity === "warning" && !diagnostics!.includes("p-1")));
  });
}
