/** JSON that goes into the text as it stands: a decimal such as 1.50, or a string with escapes that JSON.stringify
 *  would not make. */
export class Raw {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
}

export type Json = string | number | boolean | null | Raw | Json[] | { [name: string]: Json | undefined };

/** A JSON token that is written as given. */
export const raw = (text: string): Raw => new Raw(text);

/** The JSON text of a value; members keep their order, raw tokens their spelling. */
export function write(value: Json, gap: "" | " " = ""): string {
  if (value instanceof Raw) return value.text;
  if (Array.isArray(value)) return `[${value.map((item) => write(item, gap)).join(`,${gap}`)}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const members = Object.entries(value).filter((member): member is [string, Json] => member[1] !== undefined);
  return `{${members.map(([name, member]) => `${JSON.stringify(name)}:${gap}${write(member, gap)}`).join(`,${gap}`)}}`;
}

export interface Member {
  name: string;
  /** offset of the name's opening quote */
  from: number;
  /** span of the value */
  start: number;
  end: number;
}

const blank = /[ \t\r\n]/;

/** The members of the object that starts at `at`, as spans of the text, so that one can be cut out or replaced and
 *  all else stays as it is. */
export function members(text: string, at = 0): Member[] {
  const found: Member[] = [];
  let i = skip(text, text.indexOf("{", at) + 1);
  while (text[i] === '"') {
    const from = i;
    i = valueEnd(text, i);
    const name = JSON.parse(text.slice(from, i)) as string;
    const start = skip(text, skip(text, i) + 1);
    const end = valueEnd(text, start);
    found.push({ name, from, start, end });
    i = skip(text, end);
    if (text[i] === ",") i = skip(text, i + 1);
  }
  return found;
}

function skip(text: string, i: number): number {
  while (i < text.length && blank.test(text[i]!)) i++;
  return i;
}

function valueEnd(text: string, start: number): number {
  if (text[start] === '"') return stringEnd(text, start);
  if (text[start] !== "{" && text[start] !== "[") {
    let i = start;
    while (i < text.length && !/[,}\] \t\r\n]/.test(text[i]!)) i++;
    return i;
  }
  let depth = 0;
  for (let i = start; i < text.length; i++) {
    const c = text[i];
    if (c === '"') i = stringEnd(text, i) - 1;
    else if (c === "{" || c === "[") depth++;
    else if ((c === "}" || c === "]") && --depth === 0) return i + 1;
  }
  throw new Error("JSON text ends early");
}

function stringEnd(text: string, start: number): number {
  for (let i = start + 1; i < text.length; i++) {
    if (text[i] === "\\") i++;
    else if (text[i] === '"') return i + 1;
  }
  throw new Error("JSON string ends early");
}

/** The text without white space outside strings: what an export's line must be. */
export function compact(text: string): string {
  let out = "";
  let from = 0;
  for (let i = 0; i < text.length; i++) {
    const c = text[i]!;
    if (c === '"') i = stringEnd(text, i) - 1;
    else if (blank.test(c)) {
      out += text.slice(from, i);
      from = i + 1;
    }
  }
  return from === 0 ? text : out + text.slice(from);
}

/** The text laid out over lines as HAPI does, tokens unchanged. */
export function pretty(text: string): string {
  let out = "";
  let depth = 0;
  const line = () => `\n${"  ".repeat(depth)}`;
  for (let i = 0; i < text.length; i++) {
    const c = text[i]!;
    if (c === '"') {
      const end = stringEnd(text, i);
      out += text.slice(i, end);
      i = end - 1;
    } else if (blank.test(c)) continue;
    else if (c === "{" || c === "[") {
      const close = skip(text, i + 1);
      if (text[close] === "}" || text[close] === "]") {
        out += `${c} ${text[close]}`;
        i = close;
      } else {
        depth++;
        out += c + line();
      }
    } else if (c === "}" || c === "]") {
      depth--;
      out += line() + c;
    } else if (c === ",") out += c + line();
    else if (c === ":") out += ": ";
    else out += c;
  }
  return out;
}

/** `text` of a resource with this version in its meta (made if absent); other members of meta stay. */
export function stamp(text: string, version: { versionId: string; lastUpdated: string }): string {
  const meta = members(text).find(({ name }) => name === "meta");
  const own = `"versionId":${JSON.stringify(version.versionId)},"lastUpdated":${JSON.stringify(version.lastUpdated)}`;
  if (!meta) {
    const at = text.indexOf("{") + 1;
    return `${text.slice(0, at)}"meta":{${own}},${text.slice(at)}`;
  }
  const kept = members(text, meta.start)
    .filter(({ name }) => name !== "versionId" && name !== "lastUpdated")
    .map((member) => text.slice(member.from, member.end));
  return `${text.slice(0, meta.start)}{${[own, ...kept].join(",")}}${text.slice(meta.end)}`;
}

/** `text` of a resource cut to some of its top-level elements, tagged SUBSETTED in its meta; `resourceType`, `id`
 *  and `meta` always stay. */
export function subset(text: string, elements: ReadonlySet<string>): string {
  const kept = members(text).filter(
    ({ name }) => name === "resourceType" || name === "id" || name === "meta" || elements.has(name.replace(/^_/, "")),
  );
  const tag = '{"system":"http://terminology.hl7.org/CodeSystem/v3-ObservationValue","code":"SUBSETTED"}';
  const parts = kept.map((member) => {
    if (member.name !== "meta") return text.slice(member.from, member.end);
    const inner = members(text, member.start).map((item) => {
      const value = text.slice(item.from, item.end);
      return item.name === "tag" ? `${value.slice(0, -1)},${tag}]` : value;
    });
    if (!members(text, member.start).some(({ name }) => name === "tag")) inner.push(`"tag":[${tag}]`);
    return `"meta":{${inner.join(",")}}`;
  });
  if (!kept.some(({ name }) => name === "meta")) parts.push(`"meta":{"tag":[${tag}]}`);
  return `{${parts.join(",")}}`;
}
