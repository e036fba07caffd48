import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { parametersAt } from "../../../src/shim/parameters.ts";
import { shim } from "../memory.ts";

suite("OperationDefinitions and the CapabilityStatement", () => {
  for (const [id, level] of [
    ["export", "System"],
    ["patient-export", "Patient"],
    ["group-export", "Group"],
  ] as const)
    test(`${id} lists what is taken at that level, and refers to itself`, async () => {
      const response = await shim().get(`/OperationDefinition/${id}`);
      const definition = response.json();
      assert.match(String(response.headers["content-type"]), /^application\/fhir\+json/);
      assert.deepEqual(
        definition.parameter.map((one: { name: string }) => one.name),
        parametersAt(level, "ig").map(([name]) => name),
      );
      assert.deepEqual(
        [definition.system, definition.type, definition.instance],
        [level === "System", level === "Patient", level === "Group"],
      );
      assert.equal(definition.url, `https://example.org/fhir/OperationDefinition/${id}`);
    });

  test("compat: azure lists Azure's parameters", async () => {
    const { get } = shim({ settings: "compat: azure" });
    const names = (await get("/OperationDefinition/export")).json().parameter.map((one: { name: string }) => one.name);
    assert(
      names.includes("_till") &&
        names.includes("_maxCount") &&
        !(await shim().get("/OperationDefinition/export")).body.includes("_maxCount"),
    );
  });

  test("the CapabilityStatement lists the types that can be exported, so that clients ask for them", async () => {
    const typesOf = async (options: Parameters<typeof shim>[0]) =>
      (await shim(options).get("/metadata")).json().rest[0].resource.map(({ type }: { type: string }) => type);
    assert.deepEqual(await typesOf({ known: { types: new Set(["Patient", "Basic"]) } }), ["Basic", "Group", "Patient"]);
    assert(
      (await typesOf({})).includes("Observation"),
      "the types of the compartment, where the FHIR server does not tell its own",
    );
    assert.deepEqual(await typesOf({ settings: "allow: { types: [Condition] }" }), ["Condition", "Group", "Patient"]);
  });

  test("R1: the CapabilityStatement says that it is the IG's, and that SMART is on only where it is", async () => {
    const statement = (await shim().get("/metadata")).json();
    assert.deepEqual(statement.instantiates, ["http://hl7.org/fhir/uv/bulkdata/CapabilityStatement/bulk-data"]);
    assert.equal(statement.rest[0].security, undefined);
    const authority = {
      authenticate: async () => ({ kind: "access" as const, access: { client: "c", readable: "*" as const } }),
      token: async () => ({ status: 400, headers: {} }),
      smartConfiguration: () => ({}),
    };
    const secured = (await shim({ authority }).get("/metadata")).json();
    assert.equal(secured.rest[0].security.service[0].coding[0].code, "SMART-on-FHIR");
  });

  test("the CapabilityStatement lists export at three levels and no read", async () => {
    const response = await shim().get("/metadata");
    assert.match(String(response.headers["content-type"]), /^application\/fhir\+json/);
    const { resourceType, fhirVersion, rest } = response.json();
    assert.deepEqual([resourceType, fhirVersion], ["CapabilityStatement", "4.0.1"]);
    assert.equal(rest[0].operation[0].name, "export");
    const operations = rest[0].resource.flatMap(
      ({ type, operation = [] }: { type: string; operation?: { name: string }[] }) =>
        operation.map(({ name }) => `${type} ${name}`),
    );
    assert.deepEqual(operations, ["Group export", "Patient export"]);
    assert.ok(rest[0].resource.every((one: object) => !("interaction" in one)));
  });
});
