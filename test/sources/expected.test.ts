import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { expected, type Wanted } from "./expected.ts";

/** A source small enough that the answer can be written by hand. */
const resources = [
  { resourceType: "Patient", id: "a" },
  { resourceType: "Patient", id: "b", link: [{ other: { reference: "Patient/a" } }] },
  { resourceType: "Patient", id: "c" },
  {
    resourceType: "Observation",
    id: "of-a",
    subject: { reference: "Patient/a" },
    performer: [{ reference: "Patient/a" }],
  },
  {
    resourceType: "Observation",
    id: "of-b-by-c",
    subject: { reference: "Patient/b" },
    performer: [{ reference: "Patient/c" }],
  },
  { resourceType: "Observation", id: "of-version", subject: { reference: "Patient/c/_history/3" } },
  {
    resourceType: "Observation",
    id: "about-c",
    subject: { reference: "Device/d" },
    focus: [{ reference: "Patient/c" }],
  },
  {
    resourceType: "Observation",
    id: "inside",
    subject: { reference: "#x" },
    contained: [{ resourceType: "Patient", id: "x" }],
  },
  { resourceType: "Device", id: "d", patient: { reference: "Patient/a" } },
  { resourceType: "Provenance", id: "pr", target: [{ reference: "Observation/of-a" }, { reference: "Patient/c" }] },
  { resourceType: "Binary", id: "bin" },
  {
    resourceType: "Group",
    id: "g",
    member: [{ entity: { reference: "Patient/a" } }, { entity: { reference: "Group/n" } }],
  },
  {
    resourceType: "Group",
    id: "n",
    member: [
      { entity: { reference: "Group/g" } },
      { entity: { reference: "Patient/b" }, inactive: true },
      { entity: { reference: "Patient/c" }, period: { start: "2020-01-01", end: "2020-12-31" } },
    ],
  },
  { resourceType: "Group", id: "none" },
  { resourceType: "Group", id: "other", member: [{ entity: { reference: "Patient/a" } }] },
].map((it, n) => ({ ...it, meta: { lastUpdated: `2024-01-${String(n + 1).padStart(2, "0")}T00:00:00.000Z` } }));

const source = {
  dump: () => new Map(resources.map((it) => [`${it.resourceType}/${it.id}`, Buffer.from(JSON.stringify(it))])),
};
const in2020 = Date.UTC(2020, 11, 31, 12);

suite("what an export must hold", () => {
  for (const [name, wanted, ids] of [
    ["System: all but Binary", {}, resources.map(({ id }) => id).filter((id) => id !== "bin")],
    ["System with Binary named", { types: ["Binary", "Device"] }, ["d", "bin"]],
    [
      "since is inclusive, until is not",
      { since: "2024-01-02T00:00:00.000Z", until: "2024-01-04T00:00:00.000Z" },
      ["b", "c"],
    ],
    [
      "Patient: compartment elements only",
      { level: "Patient" },
      ["a", "b", "c", "of-a", "of-b-by-c", "of-version", "pr", "g", "n", "other"],
    ],
    ["Patient, narrowed", { level: "Patient", patients: ["c"] }, ["c", "of-b-by-c", "of-version", "pr", "n"]],
    [
      "Group: now; who links to a member is in its compartment, and what is about an exported resource comes with it",
      { level: "Group", groupId: "g" },
      ["a", "b", "of-a", "pr", "g"],
    ],
    [
      "Group: in 2020",
      { level: "Group", groupId: "g", asOf: in2020 },
      ["a", "b", "c", "of-a", "of-b-by-c", "of-version", "pr", "g", "n"],
    ],
    ["Group: other Groups are not told", { level: "Group", groupId: "g", asOf: in2020, types: ["Group"] }, ["g", "n"]],
    ["Group: empty is nothing", { level: "Group", groupId: "none" }, []],
    [
      "since does not touch the cohort",
      { level: "Group", groupId: "g", since: "2024-01-04T00:00:00.000Z" },
      ["of-a", "pr", "g"],
    ],
    [
      "filters narrow their own type, any of them suffices",
      { level: "Patient", filters: { Patient: [(it) => it.id === "a", (it) => it.id === "c"] } },
      ["a", "c", "of-a", "of-b-by-c", "of-version", "pr", "g", "n", "other"],
    ],
  ] satisfies [string, Wanted, string[]][])
    test(name, () => {
      const got = [...expected(source, wanted).keys()].map((key) => key.split("/")[1]!);
      assert.deepEqual(got.sort(), ids.sort());
    });

  test("an unknown Group is an error", () => assert.throws(() => expected(source, { level: "Group", groupId: "x" })));
});
