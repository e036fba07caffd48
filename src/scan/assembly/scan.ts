// Finds the resources of a FHIR search page in the page's bytes, without building objects, and copies them as lines.
//
// A usual JSON parser looks at one byte after the other, and branches on each. SIMD instructions do one thing to 16
// bytes at a time, without a branch (blocks.ts explains how). This scanner uses them to find the few bytes that matter,
// the quotes, brackets and backslashes, and jumps from one to the next. How a page is read:
//
// 1. `scan` walks over the Bundle itself, member by member, and checks the whole grammar of JSON there (walk.ts). That
//    is little, as most bytes of a page are inside resources.
// 2. At each entry it first compares. Where the bytes between two values are those of the entry before, they were
//    checked there (same.ts). Otherwise it walks.
// 3. At an entry's resource, `jump` finds its end. For that the page is indexed, 8 KiB ahead of the walk: the brackets
//    outside strings become a list, and white space outside strings becomes bit masks. `jump` takes brackets from the
//    list until the resource's own is closed, and reads nothing between them (index.ts).
// 4. While it is indexed, the page's grammar is checked: inside resources, too, each string, number, literal, comma and
//    colon is where JSON allows it (grammar.ts). So all that `emit` copies is JSON, and white space can be left out.
// 5. What lies directly in the resource, outside the brackets of its members' values, is searched for the names that
//    matter: resourceType, id, meta, and members that the host wants (resource.ts). Of a wanted member it is said
//    whether it refers to a patient (reference.ts).
// 6. Offsets of all that was found become a row of the table, which is described below. No text is copied or decoded.
// 7. At the page's end the rest is indexed, so that every byte has been checked.
// 8. The host asks for many rows at once whether they are as expected, and for their fingerprints (rows.ts), and has
//    them copied as lines, without the white space that the masks name (emit.ts).
//
// The scanner has only one answer to what is wrong or unusual: `scan` returns false, and gives the page up. Then its
// twin (../plain.ts) reads the page, and says what is wrong with it. So it must never take what is no JSON; what it
// gives up need not be wrong. It takes what JSON.parse takes, but for names that are spelled with escapes, members
// `entry` and `resource` that come twice, and nesting deeper than 60: these pages go to the twin, which takes them, but
// for nesting deeper than 256. That bytes are UTF-8 the host has looked at before.
//
// The host gives the memory. The page lies in it, and the table. 64 bytes before and behind the page must be readable;
// what they hold does not matter. The first 128 KiB of the memory are the module's own:
//
//   512      the last bytes of the page (index.ts)
//   768      `lastMode` (below)
//   1024     the table of shuffles (emit.ts)
//   3072     constants (blocks.ts)
//   4096     the list of brackets (grammar.ts)
//   40,960   the pieces of a resource's own level (index.ts)
//   73,856   the texts that are compared (same.ts)
//   77,824   the list of scalars and commas (grammar.ts)
//   114,688  the masks of a segment (grammar.ts)
//   118,784  the second table of shuffles (emit.ts)
//
// In all these files, a function that reads a value takes its address, and returns the address behind it; 0 gives the
// page up. Texts are compared as numbers: 0x6b6e696c are the bytes "link", the first one lowest; a comment says which
// text it is.
//
// Build: node src/scan/assembly/build.ts
import { fillConstants } from "./blocks";
import { copyRows, fill } from "./emit";
import { beginIndex, endIndex } from "./index";
import { beginResources, resource } from "./resource";
import { expectedBytes, firstUnexpected, printRows, spanBytes, wantedCount } from "./rows";
import { afterResource, afterUrl, beforeUrl, beginSame, keep, same } from "./same";
import { beginWalk, behind, closing, element, escaped, isResourceType, member, name, nameLength, notASCII, put, space } from "./walk";
import { text, textEnd, textStart, value } from "./walk";

// The table, which the host reads (../simd.ts). A text is its span: two offsets, where it begins and where it ends,
// counted from the page's first byte; 0 and 0 when there is none. The highest bit of the end is set when the text is
// coded, that is not plain ASCII, or with escapes. All numbers are words of 32 bits. Its parts lie one behind the
// other:
//
//   masks   for each 64 bytes of the page, 64 bits: which bytes are white space outside strings
//   head    word 0 how many rows; 1, 2 the next link; 3, 4 the self link; 5, 6 total; 7 unused
//           behind it, what is expected (rows.ts)
//   rows    16 words each:
//           0, 1 the resource; 2 whether it is compact
//           3 search mode: 0 none, 1 match, 2 include, 3 outcome, 4 another one; 4, 5 its text
//           6, 7 type; 8, 9 id; 10, 11 lastUpdated; 12, 13 versionId; 14, 15 unused
//   spans   for each row and each wanted member 3 words: its value, and which patient it refers to (reference.ts)
const headBytes: usize = 32 + expectedBytes;
const entryBytes: usize = 64;

let page: usize = 0;
let masks: usize = 0;
let table: usize = 0;
/** rows so far, and the most that there is room for */
let count: i32 = 0;
let capacity: i32 = 0;
/** address of the spans, and how many bytes of them a row has */
let spans: usize = 0;
let rowSpanBytes: usize = 0;
/** its resourceType is Bundle */
let bundle: bool = false;

fill();
fillConstants();

/** Reads the page at `offset`, and fills the table at `tableOffset`. False gives the page up.
 *  @param maskBytes bytes of the table's masks
 *  @param rows how many rows it has room for
 *  @param spansOffset address of its spans */
export function scan(offset: usize, length: usize, tableOffset: usize, maskBytes: usize, rows: i32, spansOffset: usize): bool {
  const end = offset + length;
  page = offset;
  masks = tableOffset;
  table = tableOffset + maskBytes;
  capacity = rows;
  count = 0;
  bundle = false;
  v128.store(table, i64x2.splat(0));
  v128.store(table, i64x2.splat(0), 16);
  beginWalk(end);
  beginSame(end);
  beginResources(table + 32);
  spans = spansOffset;
  rowSpanBytes = (load<u32>(table + 32, wantedCount) as usize) * spanBytes;
  const mark: usize = length >= 3 && (load<u32>(page) & 0xffffff) == 0xbfbbef ? 3 : 0;
  beginIndex(page, end, masks, mark);
  const at = root(space(page + mark));
  store<u32>(table, count);
  return at != 0 && at <= end && bundle && space(at) == end && endIndex();
}

/** Copies the rows `from` to `to` - 1 as lines to `out`, and returns the address behind them. */
export function emit(offset: usize, tableOffset: usize, maskBytes: usize, from: i32, to: i32, out: usize): usize {
  const rows = tableOffset + maskBytes + headBytes;
  return copyRows(offset, tableOffset, rows + (from as usize) * entryBytes, rows + (to as usize) * entryBytes, out);
}

/** See PageTable.plainRows. */
export function plainRows(offset: usize, tableOffset: usize, maskBytes: usize, from: i32, to: i32): i32 {
  const at = tableOffset + maskBytes;
  const rows = at + headBytes;
  const row = firstUnexpected(offset, at + 32, rows + (from as usize) * entryBytes, rows + (to as usize) * entryBytes);
  return ((row - rows) / entryBytes) as i32;
}

/** See PageTable.prints. Returns the row whose fingerprint the host must make itself; `to` when there is none. */
export function prints(offset: usize, tableOffset: usize, maskBytes: usize, from: i32, to: i32, out: usize): i32 {
  const at = tableOffset + maskBytes;
  const rows = at + headBytes;
  const row = printRows(offset, at + 32, rows + (from as usize) * entryBytes, rows + (to as usize) * entryBytes, out);
  return ((row - rows) / entryBytes) as i32;
}

/** The Bundle. */
function root(at: usize): usize {
  if (load<u8>(at) != 0x7b) return 0;
  at++;
  for (let first = true; at != 0; first = false) {
    at = member(at, first);
    if (at == 0) return behind;
    const word = load<u64>(name);
    if (nameLength == 5 && (word & 0xffffffffff) == 0x7972746e65) {
      // entry. A second one would replace the rows of the first one, whose resources nobody would then check: given up.
      if (count > 0) return 0;
      at = entries(at);
    } else if (nameLength == 4 && (word as u32) == 0x6b6e696c) {
      // link
      at = links(at);
    } else if (nameLength == 5 && (word & 0xffffffffff) == 0x6c61746f74) {
      // total
      const from = at;
      at = value(at, 1);
      put(page, table + 20, from, at, false);
    } else if (isResourceType()) {
      at = text(at);
      // Bundle
      bundle = textEnd - textStart == 6 && load<u32>(textStart) == 0x646e7542 && load<u16>(textStart, 4) == 0x656c;
    } else at = value(at, 1);
  }
  return 0;
}

function links(at: usize): usize {
  v128.store(table, i64x2.splat(0), 4);
  if (load<u8>(at) != 0x5b) return value(at, 1);
  at++;
  for (let first = true; at != 0; first = false) {
    at = element(at, first);
    if (at == 0) return behind;
    at = link(at);
  }
  return 0;
}

function link(at: usize): usize {
  if (load<u8>(at) != 0x7b) return value(at, 1);
  let from: usize = 0;
  let to: usize = 0;
  let coded = false;
  let relation = 0;
  at++;
  for (let first = true; at != 0; first = false) {
    at = member(at, first);
    if (at == 0) {
      if (relation == 1) put(page, table + 4, from, to, coded);
      else if (relation == 2) put(page, table + 12, from, to, coded);
      return behind;
    }
    if (nameLength == 8 && load<u64>(name) == 0x6e6f6974616c6572) {
      // relation
      at = text(at);
      if (escaped) return 0; // it may be "n\u0065xt"
      const word = load<u32>(textStart);
      relation = textEnd - textStart != 4 ? 0 : word == 0x7478656e ? 1 : word == 0x666c6573 ? 2 : 0; // next, self
    } else if (nameLength == 3 && (load<u32>(name) & 0xffffff) == 0x6c7275) {
      // url
      at = text(at);
      from = textStart;
      to = textEnd;
      coded = escaped || notASCII;
    } else at = value(at, 1);
  }
  return 0;
}

function entries(at: usize): usize {
  count = 0;
  if (load<u8>(at) != 0x5b) return value(at, 1);
  at++;
  for (let first = true; at != 0; first = false) {
    at = element(at, first);
    if (at == 0) return behind;
    at = entry(at);
  }
  return 0;
}

/** One entry. It becomes a row, if it has a resource. */
function entry(at: usize): usize {
  if (load<u8>(at) != 0x7b) return value(at, 1);
  if (count == capacity) return 0;
  const row = table + headBytes + (count as usize) * entryBytes;
  const start = at;
  // First by comparing: {"fullUrl":"…","resource":{…},"search":{"mode":"match"}}, where only the URL and the resource
  // may differ from the entry that was kept.
  let urlFrom = same(beforeUrl, at);
  let urlTo: usize = 0;
  let behindResource: usize = 0;
  if (urlFrom != 0 && (urlTo = closing(urlFrom)) != 0 && (at = same(afterUrl, urlTo)) != 0) {
    behindResource = resource(at - 1, page, masks, row, spans + (count as usize) * rowSpanBytes);
    if (behindResource == 0) return 0;
    at = same(afterResource, behindResource);
    if (at != 0) {
      // the search mode is that of the kept entry; its text lies as far behind the resource's end as there
      store<u64>(row, load<u64>(lastMode), 12);
      store<u32>(row, load<u32>(lastMode, 8), 20);
      const shift = ((behindResource - page) as u32) - load<u32>(lastMode, 12);
      store<u32>(row, load<u32>(row, 16) + shift, 16);
      store<u32>(row, load<u32>(row, 20) + shift, 20);
      count++;
      return at;
    }
  }
  // Then by walking, from behind the resource if the entry began like the kept one. There is no search mode yet.
  store<u64>(row, 0, 12);
  let found = behindResource != 0;
  at = found ? behindResource : start + 1;
  urlTo = 0;
  let members = 0;
  for (let first = !found; at != 0; first = false) {
    at = member(at, first);
    if (at == 0) {
      if (!found) return behind;
      count++;
      if (behindResource != 0 || urlTo != 0) keepEnd(row);
      if (urlTo != 0) keepStart(start, urlFrom, urlTo, row);
      return behind;
    }
    members++;
    const word = load<u64>(name);
    if (nameLength == 8 && word == 0x656372756f736572) {
      // resource; a second one is given up for the same reason as a second `entry`
      if (found) return 0;
      found = load<u8>(at) == 0x7b;
      at = found ? resource(at, page, masks, row, spans + (count as usize) * rowSpanBytes) : value(at, 1);
      if (members != 2) urlTo = 0;
    } else if (nameLength == 6 && (word & 0xffffffffffff) == 0x686372616573) {
      // search
      at = search(at, row);
    } else if (members == 1 && behindResource == 0 && load<u8>(at) == 0x22) {
      urlFrom = at + 1;
      at = value(at, 1);
      urlTo = at - 1;
    } else at = value(at, 1);
  }
  return 0;
}

/** Belongs to the entry whose texts are kept: its search mode with the span (three words of its row), and its
 *  resource's end. */
const lastMode: usize = 768;

/** Keeps the texts of an entry up to its resource. */
function keepStart(start: usize, urlFrom: usize, urlTo: usize, row: usize): void {
  keep(beforeUrl, start, urlFrom);
  keep(afterUrl, urlTo, page + (load<u32>(row) as usize) + 1);
}

/** Keeps the text behind its resource, and its search mode. */
function keepEnd(row: usize): void {
  keep(afterResource, page + (load<u32>(row, 4) as usize), behind);
  store<u64>(lastMode, load<u64>(row, 12));
  store<u32>(lastMode, load<u32>(row, 20), 8);
  store<u32>(lastMode, load<u32>(row, 4), 12);
}

function search(at: usize, row: usize): usize {
  store<u64>(row, 0, 12);
  if (load<u8>(at) != 0x7b) return value(at, 1);
  at++;
  for (let first = true; at != 0; first = false) {
    at = member(at, first);
    if (at == 0) return behind;
    if (nameLength == 4 && load<u32>(name) == 0x65646f6d) {
      // mode
      at = text(at);
      store<u32>(row, modeOf(textStart, textEnd - textStart), 12);
      put(page, row + 16, textStart, textEnd, escaped || notASCII);
    } else at = value(at, 1);
  }
  return 0;
}

function modeOf(from: usize, length: usize): u32 {
  if (from == 0) return 0;
  const word = load<u64>(from);
  if (length == 5 && (word & 0xffffffffff) == 0x686374616d) return 1; // match
  if (length == 7 && (word & 0xffffffffffffff) == 0x6564756c636e69) return 2; // include
  if (length == 7 && (word & 0xffffffffffffff) == 0x656d6f6374756f) return 3; // outcome
  return 4;
}

