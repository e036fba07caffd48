import { quote } from "./blocks";
import { closing, scalar, space } from "./walk";

// Checks the grammar of JSON in every byte of the page, by operations on masks (blocks.ts), without a branch per token.
// index.ts makes the masks of a segment: which bytes are inside strings, and which bytes outside them are brackets,
// white space, or signs. What is neither is a scalar: a number or a literal.
//
// 1. A value begins where one is due, and nowhere else: behind a colon, a comma or an opening bracket. Only a closing
//    bracket may stand there instead, behind an opening one.
// 2. A colon stands behind a string: it is made out only behind a quote or white space, and a closing bracket or a
//    scalar before that is an error.
// 3. What is between two brackets lies directly in one object or in one array. In an object colons and commas take
//    turns, in an array there are commas only. So a comma behind a colon is an object's: a colon must follow. A comma
//    behind another one, or behind a first value, is an array's: no colon may be the next. Of a comma right behind a
//    closing bracket both is possible. "Behind" means here that no other comma, colon or bracket is between.
// 4. Whether a bracket lies in an object or in an array is known to `jump` (index.ts) alone, which keeps those that are
//    open. So for each bracket it is noted what is before it: behind a colon it must lie in an object, else in an
//    array. A bracket that closes right behind another one may lie in both.
// 5. Scalars become a list, and so do commas that must be an array's. These are few, and each is looked at.
//
// An addition finds what is behind what, with all bytes between them passed over at once: its carry runs through ones.
//
//   colons                    ..1.............     (the first byte is bit 0, drawn at the left)
//   other bytes without mark  11.1111.111.1111
//   their sum, with the colons added twice
//                             ..........1.....     at marks: the mark behind a colon
//
// A carry that leaves the block goes on in the next one.

/** The list of brackets: 32-bit addresses. In the worst case each byte of a segment is a bracket, and up to 4 more
 *  entries behind the last one are written in vain. */
export const list: usize = 4096;
/** behind its last entry */
export let listEnd: usize = list;
/** The list of scalars, and of commas of arrays that have more than one string or scalar. In the worst case each byte
 *  is one. */
const readList: usize = 77_824;

/** The masks of the segment, for each block those of:
 *  0   what is inside strings, with the opening quotes
 *  8   quotes that begin or end strings
 *  16  brackets
 *  24  signs: commas, opening brackets, and the bytes in front of colons
 *  `checkSegment` puts others into their place, for `jump`; only the bits of brackets mean something there:
 *  0   must not lie in an array
 *  8   must not lie in an object */
export const blockMasks: usize = 114_688;
export const blockMasksBytes: usize = 32;

// What was before the next segment: 1 if that is so, else 0.
/** The byte before is of a scalar. A byte order mark counts as one that began before the page. */
let afterScalar: u64 = 0;
/** A value is due: the last byte that is no white space is a colon, a comma or an opening bracket. */
let afterOpening: u64 = 0;
/** The last byte that is no white space is a bracket. */
let afterBracket: u64 = 0;
/** The next byte is a colon. */
let beforeColon: u64 = 0;
/** The last mark is a colon; an object's comma. */
let afterColon: u64 = 0;
let afterMember: u64 = 0;

/** Begins a page, where a value is due. @param mark how many bytes of a byte order mark it begins with */
export function beginGrammar(mark: u64): void {
  afterScalar = mark == 0 ? 0 : 1;
  afterOpening = (1 as u64) << mark;
  afterBracket = beforeColon = afterColon = afterMember = 0;
  emptyList();
}

/** Makes the list empty, and returns where it begins. */
export function emptyList(): usize {
  listEnd = list;
  return list;
}

/** Checks a segment, and lists its brackets. Returns false, and has then changed nothing but scratch memory, when it is
 *  not JSON, or, with `compact`, has white space.
 *  @param compact the masks know no white space
 *  @param spaces where the masks of white space are */
// @ts-ignore: decorator
@inline export function checkSegment(compact: bool, from: usize, till: usize, spaces: usize): bool {
  let scalarCarry = afterScalar;
  let openingCarry = afterOpening;
  let bracketCarry = afterBracket;
  let colonNext = beforeColon;
  let colonCarry = afterColon;
  let memberCarry = afterMember;
  let flaws: u64 = 0;
  let to = list;
  let readTo = readList;
  let masks = blockMasks;
  for (let at = from; at < till; at += 64) {
    const inside = load<u64>(masks);
    const quotes = load<u64>(masks, 8);
    const brackets = load<u64>(masks, 16);
    const signs = load<u64>(masks, 24);
    const blanks: u64 = compact ? 0 : load<u64>(spaces);

    // tokens
    const closed = quotes & ~inside;
    const opening = brackets & signs;
    const inFront = signs & (closed | blanks);
    const colons = (inFront << 1) + colonNext;
    colonNext = inFront >> 63;
    const others = ~(inside | closed | brackets | blanks);
    const commas = signs & others;
    const scalarBytes = others & ~(commas | colons);
    const starts = scalarBytes & ~((scalarBytes << 1) + scalarCarry);
    scalarCarry = scalarBytes >> 63;
    const separators = colons | commas;
    const marks = brackets | separators;

    // what comes directly behind, or behind white space
    const openings = opening | separators;
    let dues = (openings << 1) + openingCarry;
    let behindBracket = (brackets << 1) + bracketCarry;
    openingCarry = openings >> 63;
    bracketCarry = brackets >> 63;
    if (!compact) {
      dues += blanks;
      openingCarry |= (dues < blanks) as u64;
      behindBracket += blanks;
      bracketCarry |= (behindBracket < blanks) as u64;
      flaws |= colons & behindBracket;
    }
    const closes = brackets & ~signs & behindBracket;
    flaws |= (((quotes & inside) | opening | starts) ^ (dues & ~closes)) & ~blanks;

    // which mark is the last one before each mark
    const unmarked = ~marks;
    const noColons = unmarked | colons;
    const behindColon = noColons + colons + colonCarry;
    colonCarry = (behindColon < noColons) as u64;
    const members = commas & behindColon;
    const noMembers = unmarked | members;
    const behindMember = noMembers + members + memberCarry;
    memberCarry = (behindMember < noMembers) as u64;
    flaws |= (colons & behindColon) | (behindMember & marks & ~colons);

    store<u64>(masks, behindColon);
    store<u64>(masks, ~(behindColon | closes), 8);
    masks += blockMasksBytes;
    if (!compact) spaces += 8;
    to = append(compact, to, at, brackets);
    readTo = appendFew(readTo, at, starts | (commas & ~(behindColon | behindBracket)));
  }
  if (flaws != 0 || !readAll(compact, readTo)) return false;
  afterScalar = scalarCarry;
  afterOpening = openingCarry;
  afterBracket = bracketCarry;
  beforeColon = colonNext;
  afterColon = colonCarry;
  afterMember = memberCarry;
  listEnd = to;
  return true;
}

/** Writes the address of each bit of the mask of the block at `at` to the list at `to`, and returns where the list goes
 *  on. A few addresses are stored in any case, even if there are fewer: with white space two, without it four. A branch
 *  per bit would be predicted wrongly about once per block, which costs 5 ns. */
// @ts-ignore: decorator
@inline function append(compact: bool, to: usize, at: usize, mask: u64): usize {
  const end = to + ((popcnt(mask) as usize) << 2);
  store<u32>(to, (at as u32) + (ctz(mask) as u32));
  mask &= mask - 1;
  store<u32>(to, (at as u32) + (ctz(mask) as u32), 4);
  if (compact) {
    mask &= mask - 1;
    store<u32>(to, (at as u32) + (ctz(mask) as u32), 8);
    mask &= mask - 1;
    store<u32>(to, (at as u32) + (ctz(mask) as u32), 12);
  }
  for (to += compact ? 16 : 8; to < end; to += 4) {
    mask &= mask - 1;
    store<u32>(to, (at as u32) + (ctz(mask) as u32));
  }
  return end;
}

/** As `append`, where most blocks have none, and few have two. */
// @ts-ignore: decorator
@inline function appendFew(to: usize, at: usize, mask: u64): usize {
  const end = to + ((popcnt(mask) as usize) << 2);
  store<u32>(to, (at as u32) + (ctz(mask) as u32));
  for (to += 4; to < end; to += 4) {
    mask &= mask - 1;
    store<u32>(to, (at as u32) + (ctz(mask) as u32));
  }
  return end;
}

/** Reads what is listed, up to `last`. Returns whether it is as it must be. */
function readAll(compact: bool, last: usize): bool {
  for (let entry = readList; entry < last; entry += 4) {
    const at = load<u32>(entry) as usize;
    if (!(load<u8>(at) == 0x2c ? isElement(compact, at) : isScalar(compact, at))) return false;
  }
  return true;
}

/** Whether at `at` there is a number or a literal, with a comma or a closing bracket behind it, so that no other byte
 *  is taken for a part of it. */
function isScalar(compact: bool, at: usize): bool {
  const behind = scalar(at);
  if (behind == 0) return false;
  const byte = load<u8>(compact ? behind : space(behind));
  return byte == 0x2c || byte == 0x7d || byte == 0x5d;
}

/** Whether what follows the comma at `at` is no name of a member. */
function isElement(compact: bool, at: usize): bool {
  const value = compact ? at + 1 : space(at + 1);
  if (load<u8>(value) != quote) return true;
  const last = closing(value + 1);
  return last != 0 && load<u8>(compact ? last + 1 : space(last + 1)) != 0x3a;
}
