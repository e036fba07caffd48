import assert from "node:assert/strict";
import { test } from "node:test";
import type { FhirExport } from "../../src/api/fhirexport.gen.ts";
import { countUnfinished } from "../../src/shim/new-export.ts";
import { condition } from "./memory.ts";

test("unfinished exports are the client's own that are neither complete, nor failed for good, nor cancelled", () => {
  const object = (
    client: string,
    more: Partial<FhirExport["spec"]> = {},
    conditions: [string, "True" | "False"][] = [],
  ): FhirExport => ({
    metadata: { name: "x" },
    spec: { sourceRef: { name: "s" }, targetRef: { name: "t" }, origin: { client, request: "" }, ...more },
    status: { conditions: conditions.map(([type, status]) => condition(type, status, "X")) },
  });
  const all = [
    object("a"),
    object("a", {}, [["Failed", "True"]]),
    object("a", {}, [["Complete", "True"]]),
    object("a", {}, [["Stalled", "True"]]),
    object("a", { cancel: true }),
    object("b"),
    { ...object("a"), spec: { sourceRef: { name: "s" }, targetRef: { name: "t" } } },
  ];
  assert.equal(countUnfinished(all, "a"), 2);
});
