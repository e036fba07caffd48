import { backslash, quote } from "./blocks";

// The grammar of JSON over the page, outside resources. What index.ts checks of the whole page (strings end and hold nothing they must not) is not
// checked again. Each function takes the address where it begins to read and answers the one behind what it read; 0: the page is the twin's.
// A walk may read up to 64 bytes beyond the page; `scan` does not believe what was found there.

/** deeper values than this outside resources are the twin's */
const maxDepth = 60;

let end: usize = 0;
/** the text read last; `textStart` 0: it was no string */
export let textStart: usize = 0;
export let textEnd: usize = 0;
/** the name of the member read last */
export let name: usize = 0;
export let nameLength: usize = 0;
/** when `member` or `element` answer 0: the address behind the closed object or array, or 0 */
export let behind: usize = 0;

export function beginWalk(to: usize): void {
  end = to;
}

// @ts-ignore: decorator
@inline export function space(at: usize): usize {
  return load<u8>(at) > 0x20 ? at : skipSpace(at);
}

function skipSpace(at: usize): usize {
  const blank = i8x16.splat(0x20);
  for (; at < end; at += 16) {
    const others = i8x16.bitmask(i8x16.gt_u(v128.load(at), blank));
    if (others != 0) return min(at + (ctz(others) as usize), end);
  }
  return end;
}

// @ts-ignore: decorator
@inline function leave(at: usize): usize {
  behind = at + 1;
  return 0;
}

/** Address of the next member's value, its name in `name` and `nameLength`; or 0, see `behind`. A name with escapes is the twin's.
 *  `first`: `at` is behind the `{`, else behind a value. */
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
  const quotes = i8x16.bitmask(i8x16.eq(v, i8x16.splat(quote as i8)));
  const backslashes = i8x16.bitmask(i8x16.eq(v, i8x16.splat(backslash as i8)));
  let length: usize = 0;
  if (quotes != 0) {
    length = ctz(quotes) as usize;
    // bits below the lowest quote
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

/** Address of the next element; or 0, see `behind`. `first` as with `member`. */
export function element(at: usize, first: bool): usize {
  behind = 0;
  at = space(at);
  if (load<u8>(at) == 0x5d) return leave(at);
  if (at >= end) return 0;
  if (first) return at;
  return load<u8>(at) == 0x2c ? space(at + 1) : 0;
}

/** the string that `closing` passed over has escapes */
export let escaped: bool = false;
/** ... is not ASCII */
export let foreign: bool = false;

/** Address of the quote that ends the string whose first character is at `at`. */
export function closing(at: usize): usize {
  const quotes = i8x16.splat(quote as i8);
  const backslashes = i8x16.splat(backslash as i8);
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
      foreign = beyondASCII != 0;
      escaped = escapes;
      return at;
    }
    escapes = true;
    at += 2;
  }
  return 0;
}

/** A string, to `textStart` and `textEnd`; or any other value, passed over. */
export function text(at: usize): usize {
  textStart = textEnd = 0;
  if (load<u8>(at) != quote) return value(at, 1);
  const last = closing(at + 1);
  if (last == 0) return 0;
  textStart = at + 1;
  textEnd = last;
  return last + 1;
}

/** Writes a span of the page to the table; `coded`: it is not plain ASCII without escapes. `from` 0: there is none. */
// @ts-ignore: decorator
@inline export function put(page: usize, to: usize, from: usize, last: usize, coded: bool): void {
  store<u32>(to, from == 0 ? 0 : ((from - page) as u32));
  store<u32>(to, from == 0 ? 0 : ((last - page) as u32) | ((coded as u32) << 31), 4);
}

/** Whether the member read last is `resourceType`. */
// @ts-ignore: decorator
@inline export function isResourceType(): bool {
  return nameLength == 12 && load<u64>(name) == 0x656372756f736572 && load<u32>(name, 8) == 0x65707954;
}

/** Any value, passed over. */
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
