// Finds the entry resources of a FHIR search page in its bytes, without building objects, and copies them as lines. The page lies in the memory that
// the host gives; so does the table of what was found. 64 bytes before and behind the page must be readable; what they hold does not matter.
// The memory's first 128 KiB are the module's own (addresses of what lies there: emit.ts, index.ts, same.ts, `lastMode` here).
//
// index.ts    the page by 64-byte blocks: brackets outside strings, white space, what must not be in strings; bracket kinds matched inside a resource
// walk.ts     outside resources: the whole grammar
// resource.ts a resource's own names that matter, and those of its meta
// reference.ts what a member's value says of patients
// rows.ts     what is asked of all rows: whether they are as expected, their fingerprints
// same.ts     what one entry has in common with the next is compared, not read
// emit.ts     lines
//
// Whatever is wrong or unusual makes `scan` answer false: then the twin (../plain.ts) reads the page and says what it is.
// Build: node src/scan/assembly/build.ts
import { copyRows, fill } from "./emit";
import { beginIndex, endIndex } from "./index";
import { beginResources, resource } from "./resource";
import { expectedBytes, firstOdd, printRows, spanBytes, wantedCount } from "./rows";
import { afterResource, afterUrl, beforeUrl, beginSame, keep, same } from "./same";
import { beginWalk, behind, closing, element, escaped, foreign, isResourceType, member, name, nameLength, put, space, text, textEnd, textStart, value } from "./walk";

// The table, in 32-bit words; the host (../simd.ts) reads it. Offsets count from the page's first byte; 0, 0 = absent; the highest bit of an end: the
// text is not plain ASCII, or has escapes.
// Before its rows: where white space stands outside strings, a 64-bit mask per 64 bytes of the page.
//   head   count, next from, to, self from, to, total from, to
//   entry  start, end, compact, mode (0 none, 1 match, 2 include, 3 outcome, 4 other: its text), mode from, to, type from, to, id from, to,
//          lastUpdated from, to, versionId from, to
// The head is followed by what is expected (rows.ts), the entries by the spans of the wanted members: per entry and member
// from, to, what it says of patients (reference.ts).
const headBytes: usize = 32 + expectedBytes;
const entryBytes: usize = 64;

let page: usize = 0;
let masks: usize = 0;
let table: usize = 0;
let count: i32 = 0;
let capacity: i32 = 0;
/** of the spans; and of those of one row */
let spans: usize = 0;
let rowSpanBytes: usize = 0;
let bundle: bool = false;

fill();

/** Fills the table at `tableOffset`, which has `maskBytes` of masks, place for so many rows, and their spans at `spansOffset`. False: the page is the twin's. */
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
  beginIndex(page, end, masks);
  beginWalk(end);
  beginSame(end);
  beginResources(table + 32);
  spans = spansOffset;
  rowSpanBytes = (load<u32>(table + 32, wantedCount) as usize) * spanBytes;
  const mark: usize = length >= 3 && (load<u32>(page) & 0xffffff) == 0xbfbbef ? 3 : 0;
  const at = root(space(page + mark));
  store<u32>(table, count);
  return at != 0 && at <= end && bundle && space(at) == end && endIndex();
}

/** Copies rows `from` to `to` - 1 as lines. */
export function emit(offset: usize, tableOffset: usize, maskBytes: usize, from: i32, to: i32, out: usize): usize {
  const rows = tableOffset + maskBytes + headBytes;
  return copyRows(offset, tableOffset, rows + (from as usize) * entryBytes, rows + (to as usize) * entryBytes, out);
}

/** See PageTable.plainRows. */
export function plainRows(offset: usize, tableOffset: usize, maskBytes: usize, from: i32, to: i32): i32 {
  const at = tableOffset + maskBytes;
  const rows = at + headBytes;
  const row = firstOdd(offset, at + 32, rows + (from as usize) * entryBytes, rows + (to as usize) * entryBytes);
  return ((row - rows) / entryBytes) as i32;
}

/** See PageTable.prints; answers the row that the host must do itself, or `to`. */
export function prints(offset: usize, tableOffset: usize, maskBytes: usize, from: i32, to: i32, out: usize): i32 {
  const at = tableOffset + maskBytes;
  const rows = at + headBytes;
  const row = printRows(offset, at + 32, rows + (from as usize) * entryBytes, rows + (to as usize) * entryBytes, out);
  return ((row - rows) / entryBytes) as i32;
}

// Each of these takes the address of a value and answers the one behind it; 0: the page is the twin's.

function root(at: usize): usize {
  if (load<u8>(at) != 0x7b) return 0;
  at++;
  for (let first = true; at != 0; first = false) {
    at = member(at, first);
    if (at == 0) return behind;
    const word = load<u64>(name);
    if (nameLength == 5 && (word & 0xffffffffff) == 0x7972746e65) {
      // entry; of rows that are replaced the grammar inside would not be seen by anyone
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
      coded = escaped || foreign;
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

/** One entry becomes a row, if it has a resource. */
function entry(at: usize): usize {
  if (load<u8>(at) != 0x7b) return value(at, 1);
  if (count == capacity) return 0;
  const row = table + headBytes + (count as usize) * entryBytes;
  const start = at;
  // {"fullUrl":"…","resource":{…},"search":{"mode":"match"}} and no other value than the first
  let urlFrom = same(beforeUrl, at);
  let urlTo: usize = 0;
  let behindResource: usize = 0;
  if (urlFrom != 0 && (urlTo = closing(urlFrom)) != 0 && (at = same(afterUrl, urlTo)) != 0) {
    behindResource = resource(at - 1, page, masks, row, spans + (count as usize) * rowSpanBytes);
    if (behindResource == 0) return 0;
    at = same(afterResource, behindResource);
    if (at != 0) {
      store<u64>(row, load<u64>(lastMode), 12);
      store<u32>(row, load<u32>(lastMode, 8), 20);
      const shift = ((behindResource - page) as u32) - load<u32>(lastMode, 12);
      store<u32>(row, load<u32>(row, 16) + shift, 16);
      store<u32>(row, load<u32>(row, 20) + shift, 20);
      count++;
      return at;
    }
  }
  // search mode
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
      // resource; likewise
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

/** the entry that is kept: what its row says of the mode, and where its resource ended */
const lastMode: usize = 768;

function keepStart(start: usize, urlFrom: usize, urlTo: usize, row: usize): void {
  keep(beforeUrl, start, urlFrom);
  keep(afterUrl, urlTo, page + (load<u32>(row) as usize) + 1);
}

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
      put(page, row + 16, textStart, textEnd, escaped || foreign);
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

