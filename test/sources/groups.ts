import { type Body, reference } from "./shapes.ts";

/** The Groups of a sample, in the forms that membership takes. Ids are fixed, so tests may name them: `ward`
 *  (plain), `outer` (nested, twice the same patient), `inner`, `loop` (contains itself), `mixed` (inactive, past,
 *  future, a device), `empty`, `criteria` (no members, only a characteristic), `solo` (one patient). */
export function groups(patients: readonly string[], devices: readonly string[]): { id: string; body: Body }[] {
  const at = (n: number) => patients[n % patients.length]!;
  const member = (id: string, more: Body = {}): Body => ({ entity: reference("Patient", id), ...more });
  const group = (id: string): Body => ({ entity: reference("Group", id) });
  const person = (actual: boolean, members: Body[], name: string): Body => ({
    active: true,
    type: "person",
    actual,
    name,
    member: members.length ? members : undefined,
  });
  return [
    {
      id: "ward",
      body: person(
        true,
        patients.slice(0, 10).map((id) => member(id)),
        "Station 3 – „West“",
      ),
    },
    { id: "inner", body: person(true, [member(at(4)), member(at(5)), member(at(12))], "inner") },
    { id: "outer", body: person(true, [member(at(4)), group("inner"), member(at(20))], "outer") },
    { id: "loop", body: person(true, [group("loop"), group("inner"), member(at(6))], "contains itself") },
    {
      id: "mixed",
      body: person(
        true,
        [
          member(at(1), { inactive: true }),
          member(at(2), { period: { start: "2010-01-01", end: "2015-06-30" } }),
          member(at(3), { period: { start: "2999-01-01" } }),
          member(at(7), { inactive: false, period: { start: "2012-02-02T10:00:00+01:00" } }),
          { entity: reference("Device", devices[0]!) },
          member(at(8)),
        ],
        "inactive, past, future, device, two who count",
      ),
    },
    { id: "empty", body: person(true, [], "nobody") },
    {
      id: "criteria",
      body: {
        ...person(false, [], "by rule"),
        characteristic: [
          { code: { text: "gender" }, valueCodeableConcept: { coding: [{ code: "female" }] }, exclude: false },
        ],
      },
    },
    { id: "solo", body: person(true, [member(at(9))], "one") },
  ];
}
