// Kick-offs as they come in, and the rules by which they are read.
import { type KickOff, type ParseRules, parseKickOff } from "../../src/shim/parse.ts";

const now = new Date("2026-03-01T12:00:00Z");
/** A kick-off of which nothing is wrong. */
const good = {
  level: "System",
  method: "GET",
  accept: "application/fhir+json",
  prefer: "respond-async",
  query: "",
} as const;
export const ig: ParseRules = {
  compat: "ig",
  requireAccept: true,
  requirePrefer: true,
  validReferenceBases: ["https://example.org/fhir", "https://source.example/r4/"],
};
export const azure: ParseRules = { ...ig, compat: "azure" };
export const parseWith = (request: Partial<KickOff>, rules = ig) => parseKickOff({ ...good, ...request }, now, rules);
export const post = (...parameter: object[]): Partial<KickOff> => ({
  method: "POST",
  contentType: "application/fhir+json",
  body: Buffer.from(JSON.stringify({ resourceType: "Parameters", parameter })),
});
export const query = (...pairs: [string, string][]) => new URLSearchParams(pairs).toString();
