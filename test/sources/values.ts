import type { Parameter } from "./parameters.ts";

/** A half-open span of time, in ms since 1970. */
export interface Span {
  from: number;
  till: number;
}

export class BadValue extends Error {}

const datePattern = /^(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d):(\d\d)(?::(\d\d)(?:\.(\d+))?)?(Z|[+ -]\d\d:\d\d)?)?)?)?$/;

/** What a FHIR date of any precision covers; without a zone it is UTC. A blank before the offset is a `+` that a form
 *  decoder took.
 *  @throws BadValue */
export function span(value: string): Span {
  const match = datePattern.exec(value);
  if (!match) throw new BadValue(`"${value}" is not a date`);
  const [, year, month, day, hour, minute, second, fraction, zone] = match;
  const offset = zone?.replace(" ", "+") ?? "Z";
  const ms = (fraction ?? "").slice(0, 3).padEnd(3, "0");
  const from = Date.parse(
    `${year}-${month ?? "01"}-${day ?? "01"}T${hour ?? "00"}:${minute ?? "00"}:${second ?? "00"}.${ms}${offset}`,
  );
  if (Number.isNaN(from)) throw new BadValue(`"${value}" is not a date`);
  if (!month) return { from, till: Date.UTC(Number(year) + 1, 0, 1) };
  if (!day) return { from, till: Date.UTC(Number(year), Number(month), 1) };
  const length = hour === undefined ? 86_400_000 : second === undefined ? 60_000 : fraction === undefined ? 1000 : 1;
  return { from, till: from + length };
}

/** Whether a resource's span fits a date parameter with prefix.
 *  @throws BadValue */
export function dateMatches(value: string): (resource: Span) => boolean {
  const prefix = /^(eq|ne|gt|ge|lt|le|sa|eb)/.exec(value)?.[0] ?? "";
  const asked = span(value.slice(prefix.length));
  const inside = (it: Span) => it.from >= asked.from && it.till <= asked.till;
  switch (prefix) {
    case "ne":
      return (it) => !inside(it);
    case "gt":
      return (it) => it.till > asked.till;
    case "ge":
      return (it) => it.till > asked.till || inside(it);
    case "lt":
      return (it) => it.from < asked.from;
    case "le":
      return (it) => it.from < asked.from || inside(it);
    case "sa":
      return (it) => it.from >= asked.till;
    case "eb":
      return (it) => it.till <= asked.from;
    default:
      return inside;
  }
}

/** Splits at a separator that no backslash escapes; escapes stay in the parts. */
export function split(value: string, separator: string): string[] {
  const parts: string[] = [];
  let part = "";
  for (let i = 0; i < value.length; i++) {
    if (value[i] === "\\") part += `\\${value[++i] ?? ""}`;
    else if (value[i] === separator) {
      parts.push(part);
      part = "";
    } else part += value[i];
  }
  parts.push(part);
  return parts;
}

const unescaped = (value: string) => value.replace(/\\([,|$\\])/g, "$1");

/** The values at dotted paths, arrays walked through. */
export function valuesAt(resource: unknown, paths: readonly string[]): unknown[] {
  return paths.flatMap((path) =>
    path.split(".").reduce<unknown[]>((found, name) => found.flatMap((item) => step(item, name)), [resource]),
  );
}

function step(item: unknown, name: string): unknown[] {
  const value = (item as Record<string, unknown> | null)?.[name];
  return value === undefined || value === null ? [] : Array.isArray(value) ? value : [value];
}

/** A test of a resource's values of one parameter. */
export type Test = (values: readonly unknown[]) => boolean;

/** A test for `parameter=value` (values separated by comma are alternatives).
 *  @param bases the server's own base URLs: absolute references below them are local
 *  @throws BadValue for a value or modifier that the server does not know */
export function matcher(
  parameter: Parameter,
  modifier: string | undefined,
  value: string,
  bases: readonly string[],
): Test {
  if (modifier === "missing") {
    if (value !== "true" && value !== "false") throw new BadValue(`:missing is true or false, not "${value}"`);
    return (values) => (values.length === 0) === (value === "true");
  }
  const alternatives = split(value, ",");
  if (parameter.kind === "reference") {
    if (modifier && !/^[A-Z]/.test(modifier)) throw new BadValue(`modifier :${modifier} is not supported`);
    const test = referenceTest(parameter.target ?? modifier, alternatives.map(unescaped), bases);
    return (values) => values.some(test);
  }
  const negated = modifier === "not" && parameter.kind === "token";
  const tests = alternatives.map((alternative) => single(parameter, negated ? undefined : modifier, alternative));
  return (values) => values.some((item) => tests.some((test) => test(item))) !== negated;
}

function single({ kind }: Parameter, modifier: string | undefined, value: string): (item: unknown) => boolean {
  const plain = unescaped(value);
  if (modifier && !(kind === "string" && (modifier === "exact" || modifier === "contains")))
    throw new BadValue(`modifier :${modifier} is not supported`);
  if (kind === "token") return tokenTest(value);
  if (kind === "date") {
    const matches = dateMatches(plain);
    return (item) => {
      const covered = spanOf(item);
      return covered !== undefined && matches(covered);
    };
  }
  if (kind === "uri" || modifier === "exact") return (item) => item === plain;
  const folded = fold(plain);
  return (item) => {
    const text = fold(String(item));
    return modifier === "contains" ? text.includes(folded) : text.startsWith(folded);
  };
}

const fold = (text: string) => text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();

function spanOf(item: unknown): Span | undefined {
  if (typeof item === "string") return span(item);
  const { start, end } = item as { start?: string; end?: string };
  if (!start && !end) return undefined;
  return {
    from: start ? span(start).from : Number.NEGATIVE_INFINITY,
    till: end ? span(end).till : Number.POSITIVE_INFINITY,
  };
}

function tokenTest(value: string): (item: unknown) => boolean {
  const parts = split(value, "|").map(unescaped);
  const [system, code] = parts.length > 1 ? [parts[0], parts[1]] : [undefined, parts[0]];
  const test = (itemSystem: unknown, itemCode: unknown) =>
    (system === undefined || (system === "" ? itemSystem === undefined : itemSystem === system)) &&
    (code === "" || itemCode === code);
  return (item) => {
    // code and boolean, Coding, Identifier, CodeableConcept
    if (typeof item !== "object") return test(undefined, String(item));
    const { coding, system: own, code: ownCode, value: identifier } = item as Record<string, unknown>;
    if (Array.isArray(coding))
      return coding.some((one: { system?: string; code?: string }) => test(one.system, one.code));
    return test(own, ownCode ?? identifier);
  };
}

function referenceTest(
  target: string | undefined,
  values: string[],
  bases: readonly string[],
): (item: unknown) => boolean {
  // a set, because cohorts are lists of hundreds of ids
  const wanted = new Set(values.map((value) => (value.includes("/") || !target ? value : `${target}/${value}`)));
  return (item) => {
    const { reference } = item as { reference?: unknown };
    if (typeof reference !== "string") return false;
    const base = bases.find((base) => reference.startsWith(`${base}/`));
    const local = base === undefined ? reference.replace(/^\//, "") : reference.slice(base.length + 1);
    // a reference to one version is a reference to the resource, too
    const match = /^([A-Za-z]+)\/([^/?#\s]{1,128})(\/_history\/.+)?$/.exec(local);
    if (match === null || (target && match[1] !== target)) return false;
    return wanted.has(`${match[1]}/${match[2]}`) || wanted.has(match[2]!);
  };
}
