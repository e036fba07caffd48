/** Measures the worker's gzip output beside zlib itself: `node bench/gzip.ts FILE`, a file of lines. Prints MB/s of
 *  lines as JSON, a figure for each of the interleaved rounds:
 *
 *  output   lines in, blocks out, as the worker makes them: segments, CRC, both SHA-256, a block list
 *  digests  zlib's gzipSync of level 1, a MiB at a time, and both SHA-256: the same duties
 *  zlib     gzipSync alone */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { Readable } from "node:stream";
import { gunzipSync, gzipSync } from "node:zlib";
import { planPath } from "../src/sink/layout.ts";
import type { Lines } from "../src/sink/lines.ts";
import { Slabs, slabSpace } from "../src/sink/slabs.ts";
import type { Store } from "../src/sink/store.ts";
import { ShardWriter } from "../src/sink/writer.ts";
import { systemClock } from "../src/surroundings.ts";

const rounds = 5;
const blockBytes = 8 << 20;
const member = 1 << 20;
/** lines of a page */
const pageLines = 300;

/** how often a round goes over the content */
const repeats = 100;

// The same MiB is used again and again: it lies in the caches, like a page that has just been read.
const all = readFileSync(process.argv[2]!);
const content = all.subarray(0, all.lastIndexOf(10, member - 1) + 1);
const ends: number[] = [];
for (let at = content.indexOf(10); at >= 0; at = content.indexOf(10, at + 1)) ends.push(at + 1);
const startOf = (line: number) => (line === 0 ? 0 : ends[line - 1]!);
const lines: Lines = {
  room: (from, to) => startOf(to) - startOf(from),
  emit: (from, to, memory, at) => at + content.copy(memory, at, startOf(from), startOf(to)),
};

/** A store that keeps small objects, and drops blocks. @param kept takes the blocks instead */
function sink(kept?: Uint8Array[]): Store {
  const small = new Map([[planPath, { bytes: Buffer.from("{}"), etag: "0" }]]);
  let etags = 0;
  const put = async (path: string, bytes: Uint8Array) => {
    const etag = String(++etags);
    small.set(path, { bytes: Buffer.from(bytes), etag });
    return etag;
  };
  return {
    read: async (path: string) => small.get(path),
    stream: async (path: string) =>
      small.has(path) ? { ...small.get(path)!, body: Readable.from([]), size: 1 } : undefined,
    create: put,
    replace: put,
    remove: async (path: string) => void small.delete(path),
    list: async function* () {},
    blocks: () => ({
      stage: async (_: string, bytes: Uint8Array) => void kept?.push(Buffer.from(bytes)),
      holds: async () => true,
      commit: async () => "committed",
    }),
  } as unknown as Store;
}

const slabs = new Slabs(Buffer.alloc(4 * slabSpace(blockBytes)), 0, blockBytes, 4);

async function output(store = sink()): Promise<void> {
  const writer = await ShardWriter.open({
    store,
    slabs,
    uid: "bench",
    shard: { id: "Observation-0001", type: "Observation", expected: ends.length * repeats },
    gzip: true,
    maxFileBytes: 1 << 30,
    blockBytes,
    nonce: () => "00000000",
    clock: systemClock,
  });
  // fingerprints are not measured here, so any different numbers do
  const words = new Uint32Array(4 * pageLines);
  for (let [page, shown] = [0, 0]; page < repeats; page++)
    for (let from = 0; from < ends.length; from += pageLines) {
      const to = Math.min(ends.length, from + pageLines);
      writer.begin(`${page}-${from}`);
      for (let i = 0; i < to - from; i++) words[i * 4] = words[i * 4 + 1] = ++shown;
      writer.showRun(words, 0, to - from);
      const waits = writer.lines(lines, from, to);
      if (waits) await waits;
      await writer.pageDone(page < repeats - 1 || to < ends.length ? "next" : undefined, { shown: 0 });
    }
  await writer.finish({ evidence: [] });
  writer.close();
}

function zlib(digests: boolean): void {
  const [stored, whole] = [createHash("sha256"), createHash("sha256")];
  for (let i = 0; i < repeats; i++) {
    const made = gzipSync(content, { level: 1 });
    if (!digests) continue;
    whole.update(content);
    stored.update(made);
  }
}

const kept: Uint8Array[] = [];
await output(sink(kept));
assert.ok(gunzipSync(Buffer.concat(kept)).equals(Buffer.concat(Array<Buffer>(repeats).fill(content))));

const methods = { output, digests: () => zlib(true), zlib: () => zlib(false) };
const found = { output: [] as number[], digests: [] as number[], zlib: [] as number[] };
for (let i = 0; i < rounds; i++)
  for (const name of Object.keys(methods) as (keyof typeof methods)[]) {
    const from = performance.now();
    await methods[name]();
    found[name].push((content.length * repeats) / 1000 / (performance.now() - from));
  }
console.log(JSON.stringify(found));
