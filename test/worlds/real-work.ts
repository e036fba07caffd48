import type { Transform, TransformCallback } from "node:stream";
import zlib from "node:zlib";

let pending = 0;

/** Whether something is under way that takes real time, so that a world's time must stand still. */
export const isRealWorkPending = (): boolean => pending > 0;

// A file that a successor has finished is unpacked by a thread of its own when it is read back. That is the only work
// of a worker on these stores that is neither done at once nor waits for the world's time.
const gunzip = (zlib as unknown as { Gunzip: { prototype: Transform } }).Gunzip.prototype;
const { _transform: unpack } = gunzip;
gunzip._transform = function (this: Transform, chunk: unknown, encoding: BufferEncoding, done: TransformCallback) {
  pending++;
  unpack.call(this, chunk, encoding, (...end) => {
    pending--;
    done(...end);
  });
};
