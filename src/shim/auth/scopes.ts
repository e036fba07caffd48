/** SMART system scopes (v1 `system/Patient.read`, v2 `system/Patient.rs`) and what they let a client export. Pure. */
import type { Issue } from "../outcome.ts";

/** Types whose resources may be read and searched; "*": all of them. */
export type Readable = "*" | readonly string[];

/** Who asks, and what that one may export. */
export interface Access {
  client: string;
  readable: Readable;
  /** ids of Groups, or patterns with `*`; absent: any */
  groups?: readonly string[];
  /** absent: any */
  types?: readonly string[];
  /** a Group's export needs a scope that reads Groups */
  groupScope?: boolean;
}

/** where no one signs in */
export const anonymous: Access = { client: "anonymous", readable: "*" };

interface Scope {
  type: string;
  /** as it is granted: reading and searching only, whatever else was asked for */
  granted: string;
}

/** `system/TYPE.read`, `system/TYPE.*` and `system/TYPE.` with letters of cruds in this order, r and s among them. Others read nothing that export needs.
 *  @returns "narrowed" for a scope with search parameters: what it leaves out would have to be kept out of an export */
function parseScope(text: string): Scope | "narrowed" | undefined {
  const [, type, v1, v2, search] =
    /^system\/(\*|[A-Z][A-Za-z]{0,63})\.(?:(read|write|\*)|(c?r?u?d?s?))(\?.*)?$/.exec(text) ?? [];
  if (type === undefined) return undefined;
  if (v1 ? v1 === "write" : !(v2!.includes("r") && v2!.includes("s"))) return undefined;
  return search === undefined ? { type, granted: `system/${type}.${v1 ? "read" : "rs"}` } : "narrowed";
}

const parseAll = (scopes: string) => scopes.split(" ").filter(Boolean).map(parseScope);

/** What a token's scopes let its client read. */
export function readableBy(scopes: string): Readable {
  const types = parseAll(scopes).flatMap((scope) => (scope && scope !== "narrowed" ? [scope.type] : []));
  return types.includes("*") ? "*" : [...new Set(types)].sort();
}

/** What is granted of the scopes that were asked for: as far as they are registered. "" when nothing is left; undefined when one asks for a part of a type,
 *  which an export cannot keep to. */
export function grant(requested: string, registered: string): string | undefined {
  const asked = parseAll(requested);
  if (asked.includes("narrowed")) return undefined;
  const allowed = readableBy(registered);
  const granted = (asked as (Scope | undefined)[]).flatMap((scope) => {
    if (!scope) return [];
    if (allowed === "*" || allowed.includes(scope.type)) return [scope.granted];
    return scope.type === "*" ? allowed.map((type) => scope.granted.replace("*", type)) : [];
  });
  return [...new Set(granted)].join(" ");
}

/** Whether an id is one of `patterns`, in which `*` stands for any characters. */
function matches(id: string, patterns: readonly string[]): boolean {
  return patterns.some((pattern) => {
    const [first = "", ...rest] = pattern.split("*");
    if (rest.length === 0) return id === first;
    const last = rest.pop()!;
    if (!id.startsWith(first) || id.length < first.length + last.length || !id.endsWith(last)) return false;
    let at = first.length;
    for (const part of rest) {
      const found = id.indexOf(part, at);
      if (found < 0 || found + part.length > id.length - last.length) return false;
      at = found + part.length;
    }
    return true;
  });
}

export interface Wanted {
  level: "System" | "Patient" | "Group";
  groupId?: string | undefined;
  types?: readonly string[] | undefined;
}

/** Types that a client may export at all. */
function exportable({ readable, types }: Access): Readable {
  if (types === undefined) return readable;
  return readable === "*" ? types : types.filter((type) => readable.includes(type));
}

/** Whether an export may be started, and its types where not all are allowed and none were named. */
export function mayExport(access: Access, { level, groupId, types }: Wanted): { types?: readonly string[] } | Issue {
  if (level === "Group") {
    if (access.groups && !matches(groupId ?? "", access.groups))
      return { code: "forbidden", text: "this client may not export this Group" };
    if (access.groupScope && access.readable !== "*" && !access.readable.includes("Group"))
      return { code: "forbidden", text: "the token's scopes do not cover Group, for example by system/Group.rs" };
  }
  const allowed = exportable(access);
  if (allowed === "*") return {};
  if (types === undefined) return { types: allowed };
  const outside = types.filter((type) => !allowed.includes(type));
  return outside.length === 0
    ? {}
    : { code: "forbidden", text: `_type: this client may not export ${outside.slice(0, 10).join(", ")}` };
}

/** Whether a client may look at an export, get its files and delete it: only its own, and only while its token covers what is in it. */
export function mayRead(
  access: Access,
  owner: string | undefined,
  types: readonly string[] | undefined,
): "yes" | "other" | "scopes" {
  if (access.client !== owner) return "other";
  if (access.readable === "*") return "yes";
  return types?.every((type) => access.readable.includes(type)) ? "yes" : "scopes";
}
