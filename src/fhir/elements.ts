import { copyResource } from "../scan/plain.ts";
import { Walker } from "../scan/walker.ts";
import { definitionsOf, type FHIRRelease } from "./release.ts";

/** The names, in JSON, of the members that a resource of `type` keeps: those of the wanted elements, with `id`, `meta`
 *  and the mandatory elements (Bulk Data IG: "SHOULD always include mandatory elements"). `value` stands for
 *  `valueQuantity` and the other names of the choice.
 *  @param elements as in the IG's `_elements`: `name` for all types, or `Type.name`; only elements of the resource's
 *    own level
 *  @returns undefined: the resource is kept as it is, since `elements` names only those of other types */
export function wantedElements(
  type: string,
  elements: readonly string[],
  release: FHIRRelease,
): ReadonlySet<string> | undefined {
  const own = elements
    .map((element) => element.split("."))
    .filter(([first, second]) => second === undefined || first === type);
  if (own.length === 0) return undefined;
  const { mandatory, choices } = definitionsOf(release);
  const names = ["id", "meta", ...(mandatory[type] ?? []), ...own.map((parts) => parts.at(-1)!)].map((name) =>
    name.replace(/\[x\]$/, ""),
  );
  return new Set(names.flatMap((name) => [name, ...(choices[type]?.[name] ?? [])]));
}

/** The value of `_elements` with which the source is asked: what is wanted, and what the exporter itself reads. Choice
 *  elements are named by all their names, since some servers do not know them by `value`, and others by nothing else.
 *  @param looked the names of the members by which compartments are found */
export function elementsToAsk(
  type: string,
  wanted: ReadonlySet<string>,
  looked: readonly string[],
  release: FHIRRelease,
): string {
  const choices = Object.entries(definitionsOf(release).choices[type] ?? {});
  const choicesOf = (name: string) => choices.filter(([, names]) => names.includes(name)).map(([choice]) => choice);
  return [...new Set([...wanted, ...looked.flatMap((name) => [name, ...choicesOf(name)])])]
    .filter((name) => name !== "id" && name !== "meta")
    .join(",");
}

const subsetted = '{"system":"http://terminology.hl7.org/CodeSystem/v3-ObservationValue","code":"SUBSETTED"}';
/** By this much a resource becomes longer at most: the tag, and the names of `meta` and `tag` around it. */
const tagBytes = subsetted.length + 32;

/** Cuts a resource to what is wanted of it, as a line with the tag SUBSETTED. What is kept is copied byte for byte,
 *  except white space outside strings. A resource that the source has cut and tagged already keeps its tag; one that
 *  the source has cut without a tag gets it here.
 *  @param bytes the resource, from `{` to `}`
 *  @param wanted of wantedElements
 *  @throws ScanError where it is not JSON */
export function cutResource(bytes: Buffer, wanted: ReadonlySet<string>): Buffer {
  const line = new SubsetLine(bytes);
  const walker = new Walker(bytes);
  line.write("{");
  let behindName = bytes.indexOf(0x7b) + 1;
  /** where `meta` goes if there is none: behind resourceType and id */
  let metaAt = line.length;
  walker.space();
  walker.members((name) => {
    const [nameFrom, nameTo] = [bytes.indexOf(0x22, behindName), bytes.lastIndexOf(0x22, walker.at - 1) + 1];
    const from = walker.at;
    walker.value(1);
    behindName = walker.at;
    if (!isWanted(name, wanted)) return;
    line.member(nameFrom, nameTo);
    if (name === "meta") line.copyMeta(from, walker.at);
    else line.copy(from, walker.at);
    if (name === "resourceType" || name === "id") metaAt = line.length;
  });
  if (!line.hasMeta) line.insertMeta(metaAt);
  line.write("}");
  return line.content;
}

/** The line of one resource while it is cut. Its buffer has room for the resource and one tag. */
class SubsetLine {
  readonly #bytes: Buffer;
  #out: Buffer;
  #at = 0;
  hasMeta = false;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
    this.#out = Buffer.allocUnsafe(bytes.length + tagBytes);
  }

  get length(): number {
    return this.#at;
  }
  get content(): Buffer {
    return this.#out.subarray(0, this.#at);
  }

  /** @param text in ASCII */
  write(text: string): void {
    this.#at += this.#out.write(text, this.#at, "latin1");
  }

  /** Begins a member, whose name with its quotes is [from, to) of the resource. */
  member(from: number, to: number): void {
    if (this.#at > 1) this.#out[this.#at++] = 0x2c;
    this.#at += this.#bytes.copy(this.#out, this.#at, from, to);
    this.#out[this.#at++] = 0x3a;
  }

  /** Copies the value [from, to) of the resource, without white space outside strings. */
  copy(from: number, to: number): void {
    this.#at = copyResource(this.#bytes, { start: from, end: to, compact: false }, this.#out, this.#at);
  }

  /** Copies the value [from, to) of `meta`, and adds the tag unless it is there. */
  copyMeta(from: number, to: number): void {
    // Where a name occurs twice, parsers take the last, so each is tagged, and each further one needs more room.
    if (this.hasMeta) this.#out = Buffer.concat([this.#out], this.#out.length + tagBytes);
    this.hasMeta = true;
    const meta = JSON.parse(this.#bytes.toString("utf8", from, to)) as { tag?: unknown } | null;
    if (typeof meta !== "object" || meta === null || Array.isArray(meta)) {
      this.write(`{"tag":[${subsetted}]}`);
    } else if (!Array.isArray(meta.tag)) {
      // A `tag` that is no list is not valid FHIR. Parsers take the second `tag`, which is put behind it.
      this.copy(from, to - 1);
      this.write(`${Object.keys(meta).length > 0 ? "," : ""}"tag":[${subsetted}]}`);
    } else if (meta.tag.some((coding: { code?: unknown } | null) => coding?.code === "SUBSETTED")) {
      this.copy(from, to);
    } else {
      const list = endOfMember(this.#bytes, from, "tag");
      this.copy(from, list - 1);
      this.write(`${meta.tag.length > 0 ? "," : ""}${subsetted}`);
      this.copy(list - 1, to);
    }
  }

  /** Puts a `meta` with the tag at `at`, between the members that the line has. */
  insertMeta(at: number): void {
    const meta = `"meta":{"tag":[${subsetted}]}`;
    const text = at > 1 ? `,${meta}` : this.#at > 1 ? `${meta},` : meta;
    this.#out.copyWithin(at + text.length, at, this.#at);
    this.#out.write(text, at, "latin1");
    this.#at += text.length;
  }
}

/** `_birthDate` holds the extensions of `birthDate`. */
const isWanted = (name: string, wanted: ReadonlySet<string>): boolean =>
  name === "resourceType" || wanted.has(name.startsWith("_") ? name.slice(1) : name);

/** Where the value of an object's last member of that name ends. */
function endOfMember(bytes: Buffer, start: number, name: string): number {
  const walker = new Walker(bytes);
  walker.at = start;
  let end = 0;
  walker.members((key) => {
    walker.value(2);
    if (key === name) end = walker.at;
  });
  return end;
}
