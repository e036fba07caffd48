import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { readAll, storage } from "../sink/stores.ts";
import { type Source, startSource } from "../sources/server.ts";
import { sampleOf } from "../tools/sample.ts";
import { Export, linesOf } from "./harness.ts";

const { kinds, place } = storage();
let source: Source;
/** sizes of the attachments; each comes beside a small resource */
const megabytes = [0.1, 0.5, 20, 0.2, 9, 3, 0.1, 12, 5, 0.3];
before(async () => {
  source = await startSource({ resources: [], behaviour: { maxCount: 1000 } });
  for (const [index, size] of megabytes.entries())
    for (const copy of [0, 1])
      source.put(
        JSON.stringify({
          resourceType: "DocumentReference",
          id: `d${index}-${copy}`,
          status: "current",
          content: [
            {
              attachment: {
                contentType: "application/pdf",
                data: copy ? "x" : "Qk1Q".repeat(Math.ceil(size * 250_000)),
              },
            },
          ],
          description: `\u00e9 "quoted" \\ ${index}`,
        }),
      );
});
after(() => source.close());

const wanted = () =>
  [...source.dump()].map(([key, line]) => [key, line.toString()]).sort(([a], [b]) => (a! < b! ? -1 : 1));

const shapes = [
  { name: "pages of up to 100 MB, blocks of 4 MiB", gzip: false, blockBytes: 4 << 20, count: 1000 },
  { name: "pages of 1, blocks of 64 KiB", gzip: false, blockBytes: 1 << 16, count: 1 },
  { name: "pages of 3, pretty, blocks of 1 MiB", gzip: false, blockBytes: 1 << 20, count: 3, pretty: true },
  { name: "pages of 4, gzip", gzip: true, blockBytes: 1 << 20, count: 4 },
];
const cases = kinds.flatMap((kind) => shapes.map((shape) => ({ kind, ...shape })));

describe("large resources and pages", () => {
  for (const { kind, name, gzip, blockBytes, count, pretty } of sampleOf("large", cases, {
    size: 5,
    kindsOf: ({ kind, name }) => [kind, name],
  }))
    test(`${name}, into ${kind}`, async () => {
      source.set({ pretty: pretty === true });
      const where = await place(kind);
      if ("azureBlob" in where.target) where.target.azureBlob.blockBytes = blockBytes;
      const exported = new Export(where, source.baseURL, {
        export: { types: ["DocumentReference"], gzip, maxFileBytes: 25_000_000 },
        source: { count, retrySeconds: 20, share: { requests: 2 } },
        plan: { shardResources: 12 },
      });
      const done = await exported.all();
      assert.deepEqual([done.code, done.report.error, done.report.exact], [0, undefined, true]);
      const { lines, doubled, manifest } = await linesOf(await where.open());
      assert.deepEqual(doubled, []);
      assert.deepEqual(
        [...lines].sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, line]) => [key, line.length]),
        wanted().map(([key, line]) => [key, line!.length]),
      );
      for (const [key, line] of wanted()) assert(lines.get(key!) === line, key);
      // 50 MB in files of at most 25 MB; how many more files there are depends on the milliseconds at which the
      // resources were put
      assert(manifest.output.length >= 3);
      for (const { path, fileSize } of manifest.output)
        assert.equal((await readAll(await where.open(), path))!.length, fileSize);
      assert.equal((await exported.run("verify")).code, 0);
    });
});
