import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { suite, test } from "node:test";
import { parse } from "yaml";
import { parameters, parametersAt } from "../../src/shim/parameters.ts";
import { shim } from "./memory.ts";

interface Operation {
  operationId: string;
  summary: string;
  description: string;
  responses: Record<string, unknown>;
  parameters?: { $ref?: string }[];
}
const document = parse(readFileSync("docs/openapi.yaml", "utf8"), { merge: true }) as {
  info: { version: string };
  paths: Record<string, Record<string, Operation>>;
  components: { parameters: Record<string, { name: string; in: string }> };
};
const methods = ["get", "post", "delete", "put", "patch", "head"];
const described = Object.entries(document.paths).flatMap(([path, operations]) =>
  Object.entries(operations)
    .filter(([method]) => methods.includes(method))
    .map(([method, operation]) => ({ path, method, operation })),
);

suite("docs/openapi.yaml", () => {
  test("describes every route, and there is a route for all that it describes", async () => {
    const { app } = shim();
    await app.ready();
    const routes = new Set<string>();
    for (const { path, method } of described) {
      const url = path
        .replace("{operation}", "export")
        .replace("{id}", ":id")
        .replace("{export}", ":id")
        .replace("{file}", "*");
      assert(app.hasRoute({ method: method.toUpperCase() as "GET", url }), `${method} ${path}`);
      routes.add(`${method} ${url}`);
    }
    // a route that is not described answers 405, or is another OperationDefinition or the same below the base's path
    const undescribed: string[] = [];
    for (const line of app.printRoutes({ commonPrefix: false, includeMeta: false }).split("\n")) {
      const [, url, list] = /── (\S+) \((.*)\)/.exec(line) ?? [];
      if (!url) continue;
      undescribed.push(`${url} ${list}`);
    }
    assert(undescribed.length > 0);
    const known = new Set(
      described.map(({ path }) =>
        path
          .split("/")
          .filter(Boolean)
          .at(-1)!
          .replace(/^\{.*\}$/, ""),
      ),
    );
    for (const line of undescribed) {
      const last = line.split(" ")[0]!.split("/").filter(Boolean).at(-1) ?? "";
      assert(
        [...known].some(
          (one) => one === last || last.startsWith(":") || last === "*" || last.endsWith("export") || last === "fhir",
        ),
        line,
      );
    }
  });

  test("every operation says what it does, under a name of its own, and how it fails", () => {
    const ids = described.map(({ operation }) => operation.operationId);
    assert.equal(new Set(ids).size, ids.length);
    for (const { path, operation } of described) {
      assert(operation.summary && operation.description, path);
      assert(
        Object.keys(operation.responses).some((status) => status.startsWith("2")),
        path,
      );
    }
  });

  test("has the parameters that the service takes", () => {
    const named = Object.values(document.components.parameters)
      .filter((one) => one.in === "query")
      .map((one) => one.name);
    const taken = parametersAt("Patient", "ig").filter(([, one]) => !one.postOnly);
    assert.deepEqual(named.sort(), taken.map(([name]) => name).sort());
    assert(Object.keys(parameters).length > named.length);
  });

  test("is of this version", () => {
    const { version } = JSON.parse(readFileSync("package.json", "utf8")) as { version: string };
    assert.equal(document.info.version, version);
  });
});

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

  test("Azure's profile tells of Azure's parameters", async () => {
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
    assert((await typesOf({})).includes("Observation"), "where the server tells nobody");
    assert.deepEqual(await typesOf({ settings: "allow: { types: [Condition] }" }), ["Condition", "Group", "Patient"]);
  });

  test("R1: the CapabilityStatement says that it is the IG's, and that SMART is on only where it is", async () => {
    const statement = (await shim().get("/metadata")).json();
    assert.deepEqual(statement.instantiates, ["http://hl7.org/fhir/uv/bulkdata/CapabilityStatement/bulk-data"]);
    assert.equal(statement.rest[0].security, undefined);
    const authority = {
      authenticate: async () => ({ client: "c", readable: "*" as const }),
      token: async () => ({ status: 400, headers: {} }),
      smartConfiguration: () => ({}),
    };
    const secured = (await shim({ authority }).get("/metadata")).json();
    assert.equal(secured.rest[0].security.service[0].coding[0].code, "SMART-on-FHIR");
  });
});
