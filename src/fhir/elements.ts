import { copyResource } from "../scan/plain.ts";
import { Walker } from "../scan/walker.ts";
import choices from "./choice-elements.json" with { type: "json" };
import mandatory from "./mandatory-elements.json" with { type: "json" };

/** R4 type -> elements of its own level without which it is no valid resource, or means something else
 *  (StructureDefinition: min > 0, isModifier). */
const mandatoryElements: Record<string, string[]> = mandatory;
/** R4 type -> choice element of its own level -> its names in JSON */
const choiceElements: Record<string, Record<string, string[]>> = choices;

/** Names of what a resource of `type` keeps; undefined: all of it, since `elements` names only those of other types.
 *  @param elements as in the Bulk Data IG's `_elements`: `name` of all types, or `Type.name`; of the resource's own
 *    level only
 *  @returns with what is mandatory, `id` and `meta` (the IG: "SHOULD always include mandatory elements"); `value`
 *    stands for `valueQuantity` and the like */
export function wantedElements(type: string, elements: readonly string[]): ReadonlySet<string> | undefined {
  const own = elements
    .map((element) => element.split("."))
    .filter(([first, second]) => second === undefined || first === type);
  if (own.length === 0) return undefined;
  return new Set(
    ["id", "meta", ...(mandatoryElements[type] ?? []), ...own.map((parts) => parts.at(-1)!)].map((name) =>
      name.replace(/\[x\]$/, ""),
    ),
  );
}

/** What the source is asked for, as the value of `_elements`: what is wanted, and what we look at. Choice elements by
 *  all their names, as servers differ in whether `value` is one for them.
 *  @param looked names of members by which compartments are found */
export const elementsToAsk = (type: string, wanted: ReadonlySet<string>, looked: readonly string[]): string =>
  [...new Set([...wanted, ...looked].flatMap((name) => [name, ...(choiceElements[type]?.[name] ?? [])]))]
    .filter((name) => name !== "id" && name !== "meta")
    .join(",");

const subsetted = '{"system":"http://terminology.hl7.org/CodeSystem/v3-ObservationValue","code":"SUBSETTED"}';
/** what a resource gets longer by at most: the tag with the names of `meta` and `tag` around it */
const tagBytes = subsetted.length + 32;

/** One resource as a line with only what is wanted of it, tagged SUBSETTED. What is kept is copied byte for byte but
 *  for white space outside strings. A source that has obeyed `_elements` has cut and tagged already; then it is copied.
 *  One that has not tagged is tagged here: it is a subset by request.
 *  @param bytes the resource, from `{` to `}`
 *  @throws ScanError when it is not JSON */
export function cutResource(bytes: Buffer, wanted: ReadonlySet<string>): Buffer {
  let out = Buffer.allocUnsafe(bytes.length + tagBytes);
  const walker = new Walker(bytes);
  let at = out.write("{");
  let behindName = bytes.indexOf(0x7b) + 1;
  /** where `meta` goes if there is none: behind resourceType and id */
  let metaAt = at;
  let hasMeta = false;
  walker.space();
  walker.members((name) => {
    const [nameFrom, nameTo] = [bytes.indexOf(0x22, behindName), bytes.lastIndexOf(0x22, walker.at - 1) + 1];
    const from = walker.at;
    walker.value(1);
    behindName = walker.at;
    if (!isWanted(name, wanted)) return;
    if (at > 1) out[at++] = 0x2c;
    at += bytes.copy(out, at, nameFrom, nameTo);
    out[at++] = 0x3a;
    if (name === "meta") {
      // a name that comes twice: parsers take the last, so each is tagged
      if (hasMeta) out = Buffer.concat([out], out.length + tagBytes);
      at = tag(bytes, from, walker.at, out, at);
      hasMeta = true;
    } else at = copy(bytes, from, walker.at, out, at);
    if (name === "resourceType" || name === "id") metaAt = at;
  });
  if (!hasMeta) {
    const meta = `"meta":{"tag":[${subsetted}]}`;
    const text = metaAt > 1 ? `,${meta}` : at > 1 ? `${meta},` : meta;
    out.copyWithin(metaAt + text.length, metaAt, at);
    out.write(text, metaAt, "latin1");
    at += text.length;
  }
  out[at++] = 0x7d;
  return out.subarray(0, at);
}

const copy = (bytes: Buffer, from: number, to: number, out: Buffer, at: number) =>
  copyResource(bytes, { start: from, end: to, compact: false }, out, at);

function isWanted(name: string, wanted: ReadonlySet<string>): boolean {
  if (name === "resourceType") return true;
  // `_birthDate` holds the extensions of `birthDate`
  const element = name.startsWith("_") ? name.slice(1) : name;
  if (wanted.has(element)) return true;
  // choice elements bear their type's name behind their own
  for (let at = element.length - 1; at > 0; at--) {
    const letter = element.charCodeAt(at);
    if (letter >= 0x41 && letter <= 0x5a && wanted.has(element.slice(0, at))) return true;
  }
  return false;
}

/** Copies the value of `meta` and adds the tag, if it is not there. */
function tag(bytes: Buffer, from: number, to: number, out: Buffer, at: number): number {
  const meta = JSON.parse(bytes.toString("utf8", from, to)) as { tag?: unknown } | null;
  const put = (text: string) => (at += out.write(text, at, "latin1"));
  if (typeof meta !== "object" || meta === null || Array.isArray(meta)) {
    put(`{"tag":[${subsetted}]}`);
    return at;
  }
  if (!Array.isArray(meta.tag)) {
    // a `tag` that is no list is no FHIR: the one behind it counts
    at = copy(bytes, from, to - 1, out, at);
    put(`${Object.keys(meta).length > 0 ? "," : ""}"tag":[${subsetted}]}`);
    return at;
  }
  if (meta.tag.some((coding: { code?: unknown } | null) => coding?.code === "SUBSETTED"))
    return copy(bytes, from, to, out, at);
  const list = spanOf(bytes, from, "tag");
  at = copy(bytes, from, list - 1, out, at);
  put(`${meta.tag.length > 0 ? "," : ""}${subsetted}`);
  return copy(bytes, list - 1, to, out, at);
}

/** Behind the value of the object's last member of that name. */
function spanOf(bytes: Buffer, start: number, name: string): number {
  const walker = new Walker(bytes);
  walker.at = start;
  let end = 0;
  walker.members((key) => {
    walker.value(2);
    if (key === name) end = walker.at;
  });
  return end;
}
