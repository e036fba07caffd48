/** Loaded before a worker (`--import`) for the column without digests. It makes no SHA-256 of lines, which come in
 *  pieces of 64 KiB and more; smaller pieces are hashed as ever. */
import crypto, { type Hash } from "node:crypto";
import { syncBuiltinESMExports } from "node:module";

const { createHash } = crypto;
crypto.createHash = (algorithm, options) => {
  const hash = createHash(algorithm, options);
  const update = hash.update.bind(hash) as (data: Uint8Array) => Hash;
  hash.update = (data: string | NodeJS.ArrayBufferView) =>
    data instanceof Uint8Array && data.length >= 65_536 ? hash : update(data as Uint8Array);
  return hash;
};
syncBuiltinESMExports();
