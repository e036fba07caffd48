import type { Resource } from "../sources/expected.ts";

/** typeFilters that worlds use, each with what it means. */
export const filters: { type: string; filter: string; holds: (resource: Resource) => boolean }[] = [
  { type: "Patient", filter: "Patient?gender=female", holds: (it) => it.gender === "female" },
  { type: "Patient", filter: "Patient?gender=female,male", holds: (it) => /^(fe)?male$/.test(it.gender) },
  { type: "Observation", filter: "Observation?status=final", holds: (it) => it.status === "final" },
  {
    type: "Observation",
    filter: "Observation?status=final,amended&code=http://loinc.org|8867-4",
    holds: (it) => /^(final|amended)$/.test(it.status) && hasCode(it, "8867-4"),
  },
  { type: "Observation", filter: "Observation?code=8310-5", holds: (it) => hasCode(it, "8310-5") },
  { type: "Encounter", filter: "Encounter?status=finished", holds: (it) => it.status === "finished" },
  { type: "MedicationRequest", filter: "MedicationRequest?status=active", holds: (it) => it.status === "active" },
  {
    type: "Condition",
    filter: "Condition?code=http://snomed.info/sct|38341003",
    holds: (it) => hasCode(it, "38341003"),
  },
];

const hasCode = ({ code }: Resource, value: string): boolean =>
  code?.coding?.some((coding: Resource) => coding.code === value) === true;
