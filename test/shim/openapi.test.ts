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
  test("describes every route, and no other", async () => {
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
    // a route that is not described answers 405, is another OperationDefinition, or is the same route below the base's
    // path
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
