/** FHIR R4, datatypes.html#instant: to the second at least, with a time zone. */
const instant = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:)(\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)$/;

/** An instant as a server wrote it, in milliseconds. FHIR allows second 60, for leap seconds: it is the end of the
 *  minute here. NaN where it is no instant. */
export function instantOf(text: string): number {
  const [, minute, second, fraction = "", zone] = instant.exec(text) ?? [];
  if (minute === undefined) return Number.NaN;
  return Date.parse(second === "60" ? `${minute}59.999${zone}` : `${minute}${second}${fraction}${zone}`);
}

/** Whether an instant is before another one.
 *  @param text as a server wrote it; most write it as we do
 *  @param bound with milliseconds and Z */
export function isEarlier(text: string, bound: string): boolean {
  if (text.length === bound.length && text.endsWith("Z") && text[19] === ".") return text < bound;
  return instantOf(text) < Date.parse(bound);
}
