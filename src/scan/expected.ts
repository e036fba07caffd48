import { keyWords } from "./print.ts";

/** What the resources of the next pages should be, and what will be asked about them. */
export interface Expected {
  type: string;
  /** They are older than this: RFC 3339 with milliseconds and Z, 24 characters. */
  till: string;
  /** They are not older than this; the same format. */
  from?: string;
  /** key of their fingerprints: 32 hex digits */
  key: string;
  /** Names of members at the top level of a resource, whose values `member` and `reference` will be asked for; at most
   *  16, each once. */
  members: readonly string[];
  /** The source's base URL: a reference below it counts like a relative one. */
  base?: string;
}

/** No resource is older. */
export const beginning = "0000-01-01T00:00:00.000Z";
/** With this, no row is plainly a match. */
export const nothingExpected: Expected = { type: "Resource", till: beginning, key: "0".repeat(32), members: [] };

export const plainInstant = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
export const plainId = /^[A-Za-z0-9.-]{1,64}$/;

/** @throws RangeError that names the member which is not as `Expected` says */
export function checkExpected({ type, till, from = beginning, key, members, base = "" }: Expected): void {
  if (!/^[A-Za-z]{1,64}$/.test(type)) throw new RangeError("Expected.type is no type of resource");
  if (!plainInstant.test(till)) throw new RangeError("Expected.till is no RFC 3339 instant with milliseconds and Z");
  if (!plainInstant.test(from)) throw new RangeError("Expected.from is no RFC 3339 instant with milliseconds and Z");
  keyWords(key);
  if (
    members.length > 16 ||
    new Set(members).size < members.length ||
    members.some((name) => !/^[a-z][A-Za-z0-9]{0,61}$/.test(name))
  )
    throw new RangeError("Expected.members are not at most 16 names of elements, each once");
  if (!/^[\x21-\x7e]*$/.test(base)) throw new RangeError("Expected.base is no URL");
}

/** How many bytes `writeExpected` writes. */
export const expectedBytes = 1656;
/** The scanner does not know a longer base URL: references below it are then parsed by the caller
 *  (PageTable.reference). */
const longestBase = 200;

/** Writes what is expected in the form that the SIMD scanner reads; assembly/rows.ts describes it. */
export function writeExpected({ type, till, from = beginning, key, members, base = "" }: Expected, to: Buffer): void {
  to.fill(0, 0, expectedBytes);
  to.writeUInt32LE(type.length, 0);
  to.writeUInt32LE(members.length, 4);
  to.write(key, 8, "hex");
  to.write(till, 24, "latin1");
  to.write(from, 1632, "latin1");
  to.write(type, 48, "latin1");
  // a set of letters: one byte per letter, 0x60 first; it holds the first letters of all names that the scanner looks
  // for
  for (const name of ["id", "meta", "resourceType", ...members]) to[112 + name.charCodeAt(0) - 0x60] = 0xff;
  for (const [index, name] of members.entries()) {
    const at = 144 + index * 80;
    const length = name.length + 2;
    to.writeUInt32LE(length, at);
    to.fill(0xff, at + 8, at + 8 + Math.min(length, 8));
    to.write(`"${name}"`, at + 16, "latin1");
  }
  if (base.length > longestBase) return;
  to.writeUInt32LE(base.length, 1424);
  to.write(base, 1428, "latin1");
}
