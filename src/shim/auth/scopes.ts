/** SMART system scopes (v1 `system/Patient.read`, v2 `system/Patient.rs`), and what a client may export with them.
 *  Pure. */
import type { Issue } from "../outcome.ts";

/** Types whose resources may be read and searched; "*": all types. */
export type Readable = "*" | readonly string[];

/** Who asks, and what that client may export. */
export interface Access {
  client: string;
  readable: Readable;
  /** Ids of Groups, or patterns with `*`; absent: any. */
  groups?: readonly string[];
  /** Absent: any type. */
  types?: readonly string[];
  /** Whether the export of a Group needs a scope that reads Groups. */
  groupScope?: boolean;
}

/** Every client of a service without auth. */
export const anonymous: Access = { client: "anonymous", readable: "*" };

interface Scope {
  type: string;
  /** The scope that is granted for it: reading and searching only, whatever else was asked for. */
  granted: string;
}

/** Reads `system/TYPE.read`, `system/TYPE.*`, and `system/TYPE.` with letters of cruds in this order that include r and
 *  s. An export needs both reading and searching, so other scopes are of no use.
 *  @returns "narrowed" for a scope with search parameters, because an export cannot leave out what such a scope does
 *    not cover */
function parseScope(text: string): Scope | "narrowed" | undefined {
  const [, type, v1, v2, search] =
    /^system\/(\*|[A-Z][A-Za-z]{0,63})\.(?:(read|write|\*)|(c?r?u?d?s?))(\?.*)?$/.exec(text) ?? [];
  if (type === undefined) return undefined;
  if (v1 ? v1 === "write" : !(v2!.includes("r") && v2!.includes("s"))) return undefined;
  return search === undefined ? { type, granted: `system/${type}.${v1 ? "read" : "rs"}` } : "narrowed";
}

const parseScopes = (scopes: string) => scopes.split(" ").filter(Boolean).map(parseScope);

/** The types that a token's scopes let its client read. */
export function readableBy(scopes: string): Readable {
  const types = parseScopes(scopes).flatMap((scope) => (scope && scope !== "narrowed" ? [scope.type] : []));
  return types.includes("*") ? "*" : [...new Set(types)].sort();
}

/** Cuts the scopes that a client asks for to those that are registered for it.
 *  @returns "" when none is left; undefined when one has search parameters, which an export cannot obey */
export function grantScopes(requested: string, registered: string): string | undefined {
  const asked = parseScopes(requested);
  if (asked.includes("narrowed")) return undefined;
  const allowed = readableBy(registered);
  const granted = (asked as (Scope | undefined)[]).flatMap((scope) => {
    if (!scope) return [];
    if (allowed === "*" || allowed.includes(scope.type)) return [scope.granted];
    return scope.type === "*" ? allowed.map((type) => scope.granted.replace("*", type)) : [];
  });
  return [...new Set(granted)].join(" ");
}

/** Whether an id fits one of the patterns, in which `*` stands for any characters. */
function matchesPattern(id: string, patterns: readonly string[]): boolean {
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

/** The part of a kick-off that is checked against an access. */
interface WantedExport {
  level: "System" | "Patient" | "Group";
  groupId?: string | undefined;
  types?: readonly string[] | undefined;
}

/** Types that a client may export at all. */
function typesOf({ readable, types }: Access): Readable {
  if (types === undefined) return readable;
  return readable === "*" ? types : types.filter((type) => readable.includes(type));
}

type Permission =
  | {
      kind: "allowed";
      /** The types to export, where the kick-off names none and not all are allowed. */
      types?: readonly string[];
    }
  | { kind: "refused"; issue: Issue };

/** Whether a client may start an export. */
export function mayExport(access: Access, { level, groupId, types }: WantedExport): Permission {
  if (level === "Group") {
    if (access.groups && !matchesPattern(groupId ?? "", access.groups))
      return forbidden(
        "this client may not export this Group; export one that it may, or ask this service's administrator",
      );
    if (access.groupScope && access.readable !== "*" && !access.readable.includes("Group"))
      return forbidden("the token's scopes do not cover Group; ask for a token with the scope system/Group.rs, too");
  }
  const allowed = typesOf(access);
  if (allowed === "*") return { kind: "allowed" };
  if (types === undefined) return { kind: "allowed", types: allowed };
  const outside = types.filter((type) => !allowed.includes(type));
  return outside.length === 0
    ? { kind: "allowed" }
    : forbidden(
        `_type: this client may not export ${outside.slice(0, 10).join(", ")}; send only types that it may export`,
      );
}

const forbidden = (text: string): Permission => ({ kind: "refused", issue: { code: "forbidden", text } });

/** Whether a client may see an export, fetch its files and delete it: only an export of its own, and only with a token
 *  that covers the export's types.
 *  @param owner the client that started it
 *  @param types of the export; undefined: all
 *  @returns "other" for another client's export; "scopes" when the token does not cover the types */
export function mayRead(
  access: Access,
  owner: string | undefined,
  types: readonly string[] | undefined,
): "yes" | "other" | "scopes" {
  if (access.client !== owner) return "other";
  if (access.readable === "*") return "yes";
  return types?.every((type) => access.readable.includes(type)) ? "yes" : "scopes";
}
