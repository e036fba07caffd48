// A byte order mark inside a string is a character like any other.
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** The text of the bytes `from` to `to` - 1, which are UTF-8. */
export function decodeUTF8(bytes: Uint8Array, from: number, to: number): string {
  // Ids, types and instants are short and ASCII: for them this loop is several times as fast as a call of TextDecoder.
  if (to - from < 40) {
    let text = "";
    for (let i = from; i < to; i++) {
      const byte = bytes[i]!;
      if (byte > 0x7f) return decoder.decode(bytes.subarray(from, to));
      text += String.fromCharCode(byte);
    }
    return text;
  }
  return decoder.decode(bytes.subarray(from, to));
}

/** The text of the bytes `from` to `to` - 1, which are ASCII. */
export const ascii = (bytes: Buffer, from: number, to: number): string => (bytes as Slices).latin1Slice(from, to);

/** `toString("latin1", …)` takes 70 ns, and spends 10 of them before it calls this. It is missing from the types, but
 *  as old as Buffer. */
type Slices = Buffer & { latin1Slice(from: number, to: number): string };
