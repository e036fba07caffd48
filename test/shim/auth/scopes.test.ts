import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { array, assert as check, constantFrom, property, uniqueArray } from "fast-check";
import { type Access, grantScopes, mayExport, mayRead, readableBy } from "../../../src/shim/auth/scopes.ts";

suite("scopes", () => {
  const readable: Record<string, ReturnType<typeof readableBy>> = {
    "system/*.rs": "*",
    "system/*.read": "*",
    "system/*.*": "*",
    "system/*.cruds": "*",
    "system/Patient.rs": ["Patient"],
    "system/Patient.read system/Observation.rs system/Patient.rs": ["Observation", "Patient"],
    "system/Patient.r": [],
    "system/Patient.s": [],
    "system/Patient.write": [],
    "system/Patient.sr": [],
    "system/Patient.": [],
    "system/patient.rs": [],
    "user/*.rs patient/*.rs openid fhirUser": [],
    "system/Observation.rs?category=laboratory": [],
    "": [],
  };
  for (const [scopes, types] of Object.entries(readable))
    test(`"${scopes}"`, () => assert.deepEqual(readableBy(scopes), types));

  const grants: { asked: string; registered: string; granted: string | undefined }[] = [
    { asked: "system/*.rs", registered: "system/*.rs", granted: "system/*.rs" },
    { asked: "system/*.read", registered: "system/*.rs", granted: "system/*.read" },
    { asked: "system/*.*", registered: "system/*.read", granted: "system/*.read" },
    { asked: "system/*.cruds", registered: "system/*.rs", granted: "system/*.rs" },
    {
      asked: "system/*.rs",
      registered: "system/Patient.rs system/Group.read",
      granted: "system/Group.rs system/Patient.rs",
    },
    { asked: "system/Patient.rs system/Basic.rs", registered: "system/Patient.rs", granted: "system/Patient.rs" },
    { asked: "system/Basic.rs openid", registered: "system/Patient.rs", granted: "" },
    { asked: "system/Patient.write", registered: "system/*.*", granted: "" },
    { asked: "system/Patient.rs?active=true", registered: "system/*.rs", granted: undefined },
  ];
  for (const { asked, registered, granted } of grants)
    test(`asked ${asked}, registered ${registered}`, () => assert.equal(grantScopes(asked, registered), granted));

  test("what is granted never goes beyond what is registered, nor beyond what was asked", () => {
    const scope = constantFrom(
      "system/*.rs",
      "system/*.read",
      "system/Patient.rs",
      "system/Group.read",
      "system/Basic.cruds",
      "system/Patient.c",
      "x",
    );
    const covers = (all: ReturnType<typeof readableBy>, type: string) => all === "*" || all.includes(type);
    check(
      property(array(scope), array(scope), (asked, registered) => {
        const granted = readableBy(grantScopes(asked.join(" "), registered.join(" "))!);
        for (const type of ["Patient", "Group", "Basic", "Encounter"])
          assert.equal(
            covers(granted, type),
            covers(readableBy(asked.join(" ")), type) && covers(readableBy(registered.join(" ")), type),
          );
      }),
    );
  });
});

suite("what a client may export", () => {
  const some: Access = { client: "c", readable: ["Group", "Observation", "Patient"], groupScope: true };
  const cases: Record<
    string,
    { access: Access; wanted: Parameters<typeof mayExport>[1]; types?: string[]; refused?: RegExp }
  > = {
    "all of all": { access: { client: "c", readable: "*" }, wanted: { level: "System" } },
    "R27 nothing named: what the scopes cover": {
      access: some,
      wanted: { level: "System" },
      types: ["Group", "Observation", "Patient"],
    },
    "named, within": { access: some, wanted: { level: "System", types: ["Patient"] } },
    "R9 named, beyond": {
      access: some,
      wanted: { level: "System", types: ["Patient", "Basic"] },
      refused: /may not export Basic/,
    },
    "the client's types narrow the scopes": {
      access: { ...some, types: ["Patient", "Basic"] },
      wanted: { level: "System" },
      types: ["Patient"],
    },
    "the client's types alone": {
      access: { client: "c", readable: "*", types: ["Patient"] },
      wanted: { level: "System" },
      types: ["Patient"],
    },
    "its Group": {
      access: { ...some, groups: ["g-1"] },
      wanted: { level: "Group", groupId: "g-1", types: ["Patient"] },
    },
    "another Group": {
      access: { ...some, groups: ["g-1"] },
      wanted: { level: "Group", groupId: "g-11" },
      refused: /not export this Group/,
    },
    "Groups by a pattern": {
      access: { ...some, groups: ["a", "St*dy-*"] },
      wanted: { level: "Group", groupId: "Study-7", types: ["Patient"] },
    },
    "a pattern that does not fit": {
      access: { ...some, groups: ["St*dy-*"] },
      wanted: { level: "Group", groupId: "Stdy7" },
      refused: /this Group/,
    },
    "a Group without a scope for Groups": {
      access: { client: "c", readable: ["Patient"], groupScope: true },
      wanted: { level: "Group", groupId: "g" },
      refused: /scopes do not cover Group/,
    },
    "... which is not asked for": {
      access: { client: "c", readable: ["Patient"] },
      wanted: { level: "Group", groupId: "g" },
      types: ["Patient"],
    },
  };
  for (const [name, { access, wanted, types, refused }] of Object.entries(cases))
    test(name, () => {
      const answer = mayExport(access, wanted);
      if (refused) assert.match(answer.kind === "refused" ? answer.issue.text : "", refused);
      else assert.deepEqual(answer, types ? { kind: "allowed", types } : { kind: "allowed" });
    });

  test("R5: looking at an export needs the client and its scopes", () => {
    const all: Access = { client: "c", readable: "*" };
    assert.equal(mayRead(all, "c", undefined), "yes");
    assert.equal(mayRead(all, "d", undefined), "other");
    assert.equal(mayRead(all, undefined, undefined), "other");
    assert.equal(mayRead(some, "c", ["Patient", "Group"]), "yes");
    assert.equal(mayRead(some, "c", ["Patient", "Basic"]), "scopes");
    assert.equal(mayRead(some, "c", undefined), "scopes");
  });

  test("a pattern fits what a person would expect", () => {
    const part = constantFrom("a", "b", "ab", "");
    check(
      property(
        uniqueArray(part, { maxLength: 3 }),
        array(constantFrom("a", "b"), { maxLength: 6 }),
        (parts, letters) => {
          const [pattern, id] = [parts.join("*"), letters.join("")];
          const fits = new RegExp(`^${pattern.replaceAll("*", ".*")}$`).test(id);
          const answer = mayExport({ client: "c", readable: "*", groups: [pattern] }, { level: "Group", groupId: id });
          assert.equal(answer.kind === "allowed", fits, `${pattern} ${id}`);
        },
      ),
    );
  });
});
