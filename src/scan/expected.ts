import { keyWords } from "./print.ts";

/** What the resources of the following scans should be, and what of them will be asked for. */
export interface Expected {
  type: string;
  /** what they are older than: RFC 3339 with milliseconds and Z, 24 characters */
  till: string;
  /** what they are not older than, likewise */
  from?: string;
  /** of `prints`: 32 hex digits */
  key: string;
  /** names of members that resources have at their own level, for `member`; at most 16, each once */
  members: readonly string[];
  /** of the source: references below it are as good as relative ones */
  base?: string;
}

/** nothing is older */
export const beginning = "0000-01-01T00:00:00.000Z";
/** no row is plainly a match */
export const nothingExpected: Expected = { type: "Resource", till: beginning, key: "0".repeat(32), members: [] };

export const plainInstant = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
export const plainId = /^[A-Za-z0-9.-]{1,64}$/;

/** @throws RangeError naming what is not as `Expected` says */
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

/** Bytes of `writeExpected`. */
export const expectedBytes = 1656;
/** longer ones are read by who asks for the reference */
const longestBase = 200;

/** Writes it as the SIMD scanner reads it: see assembly/rows.ts. */
export function writeExpected({ type, till, from = beginning, key, members, base = "" }: Expected, to: Buffer): void {
  to.fill(0, 0, expectedBytes);
  to.writeUInt32LE(type.length, 0);
  to.writeUInt32LE(members.length, 4);
  to.write(key, 8, "hex");
  to.write(till, 24, "latin1");
  to.write(from, 1632, "latin1");
  to.write(type, 48, "latin1");
  // a lane per letter from 0x60 on, of those that names begin with which are looked for
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
