import { backslashes16, quote, quotes16, spaces16 } from "./blocks";

// Walks over JSON outside resources, and checks its whole grammar there. What index.ts checks of the whole page is not
// checked again: that strings end, and hold nothing that they must not. Each function takes the address where it begins
// to read, and returns the address behind what it read; 0 gives the page up. A walk may read up to 64 bytes beyond the
// page; `scan` gives a page up whose Bundle seems to end there.

/** A page with deeper values than this outside resources is given up. */
const maxDepth = 60;

let end: usize = 0;
/** The string that was read last, from behind its quote to before the other; `textStart` 0: it was no string. */
export let textStart: usize = 0;
export let textEnd: usize = 0;
/** the name of the member that was read last */
export let name: usize = 0;
export let nameLength: usize = 0;
/** Set when `member` or `element` return 0: the address behind the object or array, if it has ended; 0 gives the page
 *  up. */
export let behind: usize = 0;

export function beginWalk(to: usize): void {
  end = to;
}

/** The address of the first byte from `at` on that is no white space. Bytes below 0x20 that are none are found by
 *  index.ts. */
// @ts-ignore: decorator
@inline export function space(at: usize): usize {
  return load<u8>(at) > 0x20 ? at : skipSpace(at);
}

function skipSpace(at: usize): usize {
  const blank = v128.load(spaces16);
  for (; at < end; at += 16) {
    const others = i8x16.bitmask(i8x16.gt_u(v128.load(at), blank));
    if (others != 0) return min(at + (ctz(others) as usize), end);
  }
  return end;
}

/** The object or array ends at the bracket at `at`. */
// @ts-ignore: decorator
@inline function leave(at: usize): usize {
  behind = at + 1;
  return 0;
}

/** Reads up to the next member's value, and returns its address; its name is in `name` and `nameLength`. Returns 0 when
 *  there is none, see `behind`. A name with escapes gives the page up.
 *  @param first whether `at` is behind the `{`, else it is behind a value */
export function member(at: usize, first: bool): usize {
  behind = 0;
  at = space(at);
  if (load<u8>(at) == 0x7d) return leave(at);
  if (!first) {
    if (load<u8>(at) != 0x2c) return 0;
    at = space(at + 1);
  }
  if (load<u8>(at) != quote || at >= end) return 0;
  at++;
  name = at;
  const v = v128.load(at);
  const quotes = i8x16.bitmask(i8x16.eq(v, v128.load(quotes16)));
  const backslashes = i8x16.bitmask(i8x16.eq(v, v128.load(backslashes16)));
  let length: usize = 0;
  if (quotes != 0) {
    length = ctz(quotes) as usize;
    // a backslash below the lowest quote
    if ((backslashes & (quotes - 1) & ~quotes) != 0) return 0;
  } else {
    const last = closing(at);
    if (last == 0 || escaped) return 0;
    length = last - at;
  }
  nameLength = length;
  at = space(at + length + 1);
  return load<u8>(at) == 0x3a ? space(at + 1) : 0;
}

/** The address of the next element; 0 when there is none, see `behind`. @param first as in `member` */
export function element(at: usize, first: bool): usize {
  behind = 0;
  at = space(at);
  if (load<u8>(at) == 0x5d) return leave(at);
  if (at >= end) return 0;
  if (first) return at;
  return load<u8>(at) == 0x2c ? space(at + 1) : 0;
}

/** the string that `closing` read last has escapes */
export let escaped: bool = false;
/** the string that `closing` read last is not all ASCII */
export let notASCII: bool = false;

/** The address of the quote that ends the string whose first character is at `at`. Sets `escaped` and `notASCII`. */
export function closing(at: usize): usize {
  const quotes = v128.load(quotes16);
  const backslashes = v128.load(backslashes16);
  let beyondASCII: i32 = 0;
  let escapes = false;
  while (at < end) {
    const v = v128.load(at);
    const stops = i8x16.bitmask(v128.or(i8x16.eq(v, quotes), i8x16.eq(v, backslashes)));
    const high = i8x16.bitmask(v);
    if (stops == 0) {
      beyondASCII |= high;
      at += 16;
      continue;
    }
    beyondASCII |= high & (stops - 1) & ~stops;
    at += ctz(stops) as usize;
    if (load<u8>(at) == quote) {
      notASCII = beyondASCII != 0;
      escaped = escapes;
      return at;
    }
    escapes = true;
    at += 2;
  }
  return 0;
}

/** Reads a string, to `textStart` and `textEnd`; passes over any other value. */
export function text(at: usize): usize {
  textStart = textEnd = 0;
  if (load<u8>(at) != quote) return value(at, 1);
  const last = closing(at + 1);
  if (last == 0) return 0;
  textStart = at + 1;
  textEnd = last;
  return last + 1;
}

/** Writes the span of a text to the table, at `to`.
 *  @param from 0: there is no text
 *  @param coded the text is not plain ASCII, or has escapes */
// @ts-ignore: decorator
@inline export function put(page: usize, to: usize, from: usize, last: usize, coded: bool): void {
  store<u32>(to, from == 0 ? 0 : ((from - page) as u32));
  store<u32>(to, from == 0 ? 0 : ((last - page) as u32) | ((coded as u32) << 31), 4);
}

/** Whether the member that was read last is `resourceType`. */
// @ts-ignore: decorator
@inline export function isResourceType(): bool {
  return nameLength == 12 && load<u64>(name) == 0x656372756f736572 && load<u32>(name, 8) == 0x65707954;
}

/** Passes over any value. */
export function value(at: usize, depth: i32): usize {
  const byte = load<u8>(at);
  if (byte == quote) {
    const last = closing(at + 1);
    return last == 0 ? 0 : last + 1;
  }
  if (byte != 0x7b && byte != 0x5b) return scalar(at);
  if (depth > maxDepth) return 0;
  at++;
  for (let first = true; at != 0; first = false) {
    at = byte == 0x7b ? member(at, first) : element(at, first);
    if (at == 0) return behind;
    at = value(at, depth + 1);
  }
  return 0;
}

/** Passes over a number, true, false or null. */
export function scalar(at: usize): usize {
  const word = load<u32>(at);
  if (word == 0x65757274 || word == 0x6c6c756e) return at + 4; // true, null
  if (word == 0x736c6166 && load<u8>(at, 4) == 0x65) return at + 5; // false
  return number(at);
}

// @ts-ignore: decorator
@inline function digits(at: usize): usize {
  const from = at;
  while (((load<u8>(at) - 0x30) as u8) < 10 && at < end) at++;
  return at > from ? at : 0;
}

function number(at: usize): usize {
  if (load<u8>(at) == 0x2d) at++;
  if (load<u8>(at) == 0x30) at++;
  else if ((at = digits(at)) == 0) return 0;
  if (load<u8>(at) == 0x2e && (at = digits(at + 1)) == 0) return 0;
  if ((load<u8>(at) | 0x20) == 0x65) {
    at++;
    const sign = load<u8>(at);
    if (sign == 0x2b || sign == 0x2d) at++;
    if ((at = digits(at)) == 0) return 0;
  }
  return at;
}
