// Servers write one entry like the other: only the values differ. So the bytes between the values of an entry are kept.
// Where the next entry has the same bytes at that place, they need not be read and checked once more. To compare takes
// a third of the time of reading.

/** Address of the first kept text. Each has a slot with 4 bytes of length and up to `longest` bytes of text. */
const kept: usize = 73_856;
const longest: usize = 128;
const slotBytes: usize = 160;

// Which text each slot keeps: `{"fullUrl":"`, then from the URL's end to the resource, then from the resource's end to
// the entry's; in the resource: before the type's value, before the id's, from there to meta's; in meta: before the
// version's value, and from there to that of lastUpdated.
export const beforeUrl: usize = kept;
export const afterUrl: usize = kept + slotBytes;
export const afterResource: usize = kept + 2 * slotBytes;
export const beforeType: usize = kept + 3 * slotBytes;
export const beforeId: usize = kept + 4 * slotBytes;
export const beforeMeta: usize = kept + 5 * slotBytes;
export const beforeVersion: usize = kept + 6 * slotBytes;
export const beforeUpdated: usize = kept + 7 * slotBytes;

let end: usize = 0;

export function beginSame(to: usize): void {
  end = to;
  for (let slot = beforeUrl; slot <= beforeUpdated; slot += slotBytes) store<u32>(slot, 0);
}

/** Keeps the text from `from` to `to` in a slot; nothing if it is too long, or ends before it begins. */
export function keep(slot: usize, from: usize, to: usize): void {
  const length = to > from && to - from <= longest ? to - from : 0;
  store<u32>(slot, length as u32);
  memory.copy(slot + 4, from, length);
}

/** The address behind the text of a slot, if the page has that text at `at`; else 0. */
// @ts-ignore: decorator
@inline export function same(slot: usize, at: usize): usize {
  const length = load<u32>(slot) as usize;
  if (length == 0 || at + length > end) return 0;
  return equalBytes(slot + 4, at, length) ? at + length : 0;
}

/** Whether `length` bytes are the same at both addresses. It may read up to 15 bytes beyond them. */
// @ts-ignore: decorator
@inline export function equalBytes(one: usize, other: usize, length: usize): bool {
  for (let i: usize = 0; i < length; i += 16) {
    let different = i8x16.bitmask(i8x16.ne(v128.load(one + i), v128.load(other + i)));
    if (length - i < 16) different &= (1 << ((length - i) as i32)) - 1;
    if (different != 0) return false;
  }
  return true;
}
