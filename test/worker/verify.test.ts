import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { gzipSync } from "node:zlib";
import { pino } from "pino";
import { sha256Of } from "../../src/digest.ts";
import { type Manifest, renderManifest } from "../../src/sink/manifest.ts";
import { DuplicateFinder } from "../../src/worker/ids.ts";
import { ProgressBoard } from "../../src/worker/progress.ts";
import { verify } from "../../src/worker/verify.ts";
import { openWork } from "../../src/worker/work.ts";
import { paths, readAll, storage } from "../sink/stores.ts";
import { type Source, startSource } from "../sources/server.ts";
import { ExportCopy } from "./export-copy.ts";
import { Export } from "./harness.ts";

const { kinds, place } = storage();
let source: Source;
/** the objects of real exports, by path */
const originals = new Map<string, Map<string, Buffer>>();
const replaced = (bytes: Buffer, from: string, to: string) =>
  Buffer.from(bytes.toString("latin1").replace(from, to), "latin1");

interface Tampering {
  name: string;
  gzip?: boolean;
  change: (copy: ExportCopy) => void;
  message: RegExp;
  reason?: string;
}
const tamperings: Tampering[] = [
  {
    name: "a file with another byte",
    change: ({ objects, manifest }) => {
      const { path } = manifest.output[1]!;
      objects.set(path, replaced(objects.get(path)!, '"resourceType"', '"resourcetype"'));
    },
    message: /^[A-Z]\w+-000\d-\d+\.ndjson has another SHA-256 than manifest\.json says/,
  },
  {
    name: "a file that ends too early",
    change: ({ objects, manifest }) => {
      const { path } = manifest.output[0]!;
      objects.set(path, objects.get(path)!.subarray(0, -10));
    },
    message: /ndjson has \d+ bytes, and manifest\.json says \d+; /,
  },
  {
    name: "a file that is gone",
    change: ({ objects, manifest }) => void objects.delete(manifest.output[2]!.path),
    message: /ndjson is in manifest\.json and not in storage$/,
    reason: "TargetUnreachable",
  },
  {
    name: "a data file that the manifest does not name",
    change: ({ objects, manifest }) =>
      void objects.set("Patient-0099-1.ndjson", objects.get(manifest.output[0]!.path)!),
    message: /^Patient-0099-1\.ndjson is in the export's folder and not in manifest\.json$/,
  },
  {
    name: "a compressed data file in a folder below that the manifest does not name",
    change: ({ objects }) => void objects.set("deleted/Patient-0001-1.ndjson.gz", gzipSync("{}\n")),
    message: /^deleted\/Patient-0001-1\.ndjson\.gz is in/,
  },
  {
    name: "SHA256SUMS with another digest",
    change: ({ objects, manifest }) => {
      const { sha256 } = manifest.output[1]!;
      objects.set("SHA256SUMS", replaced(objects.get("SHA256SUMS")!, sha256, sha256Of(Buffer.from("x"))));
    },
    message: /^SHA256SUMS: line 2 is not as manifest\.json says$/,
  },
  {
    name: "SHA256SUMS that ends too early",
    change: ({ objects }) => void objects.set("SHA256SUMS", objects.get("SHA256SUMS")!.subarray(0, 100)),
    message: /^SHA256SUMS: line 2 is/,
  },
  {
    name: "no SHA256SUMS",
    change: ({ objects }) => void objects.delete("SHA256SUMS"),
    message: /^SHA256SUMS is not in storage$/,
    reason: "TargetUnreachable",
  },
  {
    name: "a count that is not the number of lines",
    change: (copy) => {
      copy.manifest.output[0]!.count++;
      copy.agree = true;
    },
    message: /ndjson has \d+ lines, and manifest\.json says \d+; /,
  },
  {
    name: "a line that is no JSON",
    change: (copy) =>
      copy.write(copy.of("Patient")[0]!, ([first, second, ...rest]) => [first!, second!.slice(0, -1), ...rest]),
    message: /^Patient-0001-1\.ndjson: line 2 is not JSON$/,
  },
  {
    name: "a line that is no JSON, in a compressed file",
    gzip: true,
    change: (copy) => copy.write(copy.of("Patient")[0]!, (lines) => lines.with(2, `${lines[2]}}`)),
    message: /^Patient-0001-1\.ndjson\.gz: line 3 is not JSON$/,
  },
  {
    name: "an empty line",
    change: (copy) => copy.write(copy.of("Patient")[0]!, (lines) => ["", ...lines]),
    message: /: line 1 is not JSON$/,
  },
  {
    name: "a line that is not UTF-8",
    change: (copy) =>
      copy.write(copy.of("Patient")[0]!, (lines) =>
        lines.with(1, lines[1]!.replace('"Patient"', '"Patient","x":"\xff"')),
      ),
    message: /: line 2 is not UTF-8$/,
  },
  {
    name: "a last line without an end",
    change: (copy) => copy.write(copy.of("Encounter")[0]!, (lines) => lines.slice(0, 3).join("\n")),
    message: /^Encounter-0001-1\.ndjson: line 3 has no end$/,
  },
  {
    name: "a resource of another type",
    change: (copy) => {
      const [patient] = copy.lines(copy.of("Patient")[0]!);
      copy.write(copy.of("Observation").at(-1)!, (lines) => [...lines, patient!]);
    },
    message: /^Observation-\d+-\d+\.ndjson: line \d+ is not of type Observation$/,
  },
  {
    name: "a line that is JSON but no resource",
    change: (copy) => copy.write(copy.of("Patient")[0]!, (lines) => [...lines, "null"]),
    message: /: line \d+ is not of type Patient$/,
  },
  {
    name: "a resource without an id",
    change: (copy) =>
      copy.write(copy.of("Patient")[0]!, (lines) => [...lines, '{"resourceType":"Patient","_id":{"id":"x"}}']),
    message: /: line \d+ has no id$/,
  },
  {
    name: "a resource twice in a file",
    change: (copy) => copy.write(copy.of("Patient")[0]!, (lines) => [...lines.slice(0, 4), lines[1]!]),
    message: /^Patient-0001-1\.ndjson: line 5 holds the resource of line 2 of Patient-0001-1\.ndjson again$/,
  },
  {
    name: "a resource twice, in two files and versions",
    change: (copy) => {
      const [first] = copy.lines(copy.of("Observation")[0]!);
      copy.write(copy.of("Observation").at(-1)!, (lines) => [...lines, first!.replace('"versionId"', '"versionid"')]);
    },
    message: /^Observation-\d+-\d+\.ndjson: line \d+ holds the resource of line 1 of Observation-0001-1\.ndjson again$/,
  },
  {
    name: "a resource twice, in two compressed files",
    gzip: true,
    change: (copy) => {
      const [first] = copy.lines(copy.of("Observation")[0]!);
      copy.write(copy.of("Observation").at(-1)!, (lines) => [...lines, first!]);
    },
    message: /ndjson\.gz: line \d+ holds the resource of line 1 of Observation-0001-1\.ndjson\.gz again$/,
  },
  {
    name: "an error that is no OperationOutcome",
    change: (copy) => copy.write(copy.manifest.error[0]!, (lines) => [...lines, '{"resourceType":"Basic"}']),
    message: /^errors\/.*: line 2 is not of type OperationOutcome$/,
  },
  {
    name: "a deletion that is no Bundle",
    change: (copy) => {
      const item = { ...copy.of("Patient")[0]!, path: "deleted/Patient-0001-1.ndjson" };
      copy.objects.set(item.path, Buffer.from('{"resourceType":"Bundle"}\n'));
      copy.manifest.deleted.push(item);
      copy.write(item, (lines) => [...lines, '{"resourceType":"Patient"}']);
    },
    message: /^deleted\/Patient-0001-1\.ndjson: line 2 is not of type Bundle$/,
  },
  {
    name: "gzip that ends too early",
    gzip: true,
    change: (copy) => {
      const item = copy.of("Patient")[0]!;
      const bytes = copy.objects.get(item.path)!.subarray(0, -20);
      copy.objects.set(item.path, bytes);
      Object.assign(item, { fileSize: bytes.length, sha256: sha256Of(bytes) });
      copy.agree = true;
    },
    message: /^Patient-0001-1\.ndjson\.gz: its gzip is broken behind line \d+/,
  },
  {
    name: "gzip whose content has another digest",
    gzip: true,
    change: (copy) => {
      copy.of("Patient")[0]!.contentSha256 = sha256Of(Buffer.from("x"));
      copy.agree = true;
    },
    message: /^Patient-0001-1\.ndjson\.gz has another SHA-256/,
  },
  {
    name: "a manifest that ends too early",
    change: ({ objects }) => void objects.set("manifest.json", objects.get("manifest.json")!.subarray(0, 500)),
    message: /^manifest\.json is not JSON/,
  },
  {
    name: "a manifest without a list",
    change: (copy) => {
      delete (copy.manifest as Partial<Manifest>).error;
      copy.objects.set("manifest.json", renderManifest(copy.manifest));
    },
    message: /^manifest\.json has no list error$/,
  },
  {
    name: "a manifest with a negative count",
    change: (copy) => {
      copy.manifest.output[1]!.count = -1;
      copy.agree = true;
    },
    message: /^manifest\.json: output\[1\]\.count is missing or not valid$/,
  },
  {
    name: "a manifest that names a file twice",
    change: (copy) => {
      copy.manifest.output.push(copy.manifest.output[0]!);
      copy.agree = true;
    },
    message: /^manifest\.json: output\[\d+\]\.path names a file a second time$/,
  },
  {
    name: "a manifest that names a file outside of the folder",
    change: (copy) => {
      copy.manifest.output[0]!.path = "../x/Patient-0001-1.ndjson";
      copy.agree = true;
    },
    message: /^manifest\.json: output\[0\]\.path is missing or not valid$/,
  },
];

describe("verify finds", () => {
  before(async () => {
    source = await startSource({ scale: 0.4 });
    for (const kind of kinds)
      for (const gzip of [false, true]) {
        const where = await place(kind);
        const exported = new Export(where, source.baseURL, {
          export: {
            types: ["Patient", "Observation", "Encounter"],
            gzip,
            maxFileBytes: 200_000,
            warnings: ["a notice"],
          },
        });
        assert.equal((await exported.all()).code, 0);
        const { code, report } = await exported.run("verify");
        assert.deepEqual([code, report.error], [0, undefined]);
        const store = await where.open();
        const objects = new Map<string, Buffer>();
        for (const path of await paths(store)) objects.set(path, (await readAll(store, path))!);
        originals.set(`${kind} ${gzip}`, objects);
      }
  });
  after(() => source.close());

  for (const kind of kinds)
    for (const { name, gzip = false, change, message, reason = "SourceInconsistent" } of tamperings)
      test(`${name}, in ${kind}`, async () => {
        const copy = new ExportCopy(originals.get(`${kind} ${gzip}`)!);
        change(copy);
        const where = await place(kind);
        await copy.put(where);
        const { code, report } = await new Export(where, source.baseURL).run("verify");
        assert.match(report.error?.message ?? "", message);
        assert.deepEqual([code, report.error!.class, report.error!.reason], [64, "terminal", reason]);
        for (const id of source.dump().keys()) assert(!report.error!.message.includes(id.split("/")[1]!), "no ids");
      });

  for (const kind of kinds)
    test(`nothing in an export that was only moved, nor in files that are no data, in ${kind}`, async () => {
      const copy = new ExportCopy(originals.get(`${kind} true`)!);
      copy.objects.set("README.txt", Buffer.from("by a person"));
      copy.objects.set("_work/rest.ndjson", Buffer.from("x"));
      const where = await place(kind);
      await copy.put(where);
      const { code, report } = await new Export(where, source.baseURL).run("verify");
      assert.deepEqual([code, report.error], [0, undefined]);
      assert.equal(report.manifestSHA256, sha256Of(copy.objects.get("manifest.json")!));
      const all = [...copy.manifest.output, ...copy.manifest.error];
      assert.deepEqual(report.totals, {
        files: all.length,
        resources: all.reduce((sum, { count }) => sum + count, 0),
        bytes: all.reduce((sum, { fileSize }) => sum + fileSize, 0),
        errors: 0,
      });
    });

  describe("with ids that do not fit into memory", () => {
    /** Verifies with 8 KiB for ids, which is one pass for 716 ids.
     *  @returns how often each file was read, and what was found */
    async function verifyInPasses(
      copy: ExportCopy,
      print?: (id: string) => Buffer,
      signal = new AbortController().signal,
    ) {
      const where = await place("directory");
      await copy.put(where);
      const { task } = new Export(where, source.baseURL);
      const log = pino({ level: "silent" });
      await using work = await openWork({ task, index: 0, board: new ProgressBoard(), log, signal }, where.secrets);
      const read = new Map<string, number>();
      const stream: typeof work.store.stream = (path) => {
        read.set(path, (read.get(path) ?? 0) + 1);
        return work.store.stream(path);
      };
      const made = (most: number) => new DuplicateFinder(most, 8192, print);
      const found = await verify({ ...work, store: { ...work.store, stream } }, made).then(
        () => undefined,
        (error: Error) => error.message,
      );
      return { found, read };
    }

    test("files are read once for each residue class, and nothing is found in an export without duplicates", async () => {
      const copy = new ExportCopy(originals.get("directory false")!);
      const { found, read } = await verifyInPasses(copy);
      assert.equal(found, undefined);
      const passes = Math.ceil(copy.of("Observation").reduce((sum, { count }) => sum + count, 0) / 716.8);
      assert(passes > 2, `${passes}`);
      assert.deepEqual(new Set(copy.of("Observation").map(({ path }) => read.get(path))), new Set([passes]));
      assert.deepEqual(new Set(copy.of("Patient").map(({ path }) => read.get(path))), new Set([1]));
    });

    test("a resource that comes twice is found, whichever residue class it is in", async () => {
      const copy = new ExportCopy(originals.get("directory false")!);
      const at = copy.of("Observation");
      const all = at.flatMap((item) => copy.lines(item));
      for (let from = 0; from < all.length; from += Math.floor(all.length / 12)) {
        const changed = new ExportCopy(originals.get("directory false")!);
        changed.write(changed.of("Observation").at(-1)!, (lines) => [...lines, all[from]!]);
        const { found } = await verifyInPasses(changed);
        assert.match(
          found ?? "",
          /^Observation-\d+-\d+\.ndjson: line \d+ holds the resource of line \d+ of Observation-.*ndjson again$/,
        );
      }
    });

    test("ids with the same hash are compared, and are no duplicates", async () => {
      const copy = new ExportCopy(originals.get("directory false")!);
      const ids = copy.lines(copy.of("Patient")[0]!).map((line) => (JSON.parse(line) as { id: string }).id);
      const same = new Set(ids.slice(3, 6));
      const print = (id: string) =>
        createHash("sha256")
          .update(same.has(id) ? "same" : id)
          .digest();
      const { found, read } = await verifyInPasses(copy, print);
      assert.equal(found, undefined);
      assert.equal(read.get(copy.of("Patient")[0]!.path), 2);
      copy.write(copy.of("Patient").at(-1)!, (lines) => [...lines, copy.lines(copy.of("Patient")[0]!)[4]!]);
      assert.match(
        (await verifyInPasses(copy, print)).found!,
        /^Patient-.*: line \d+ holds the resource of line 5 of Patient-0001-1\.ndjson again$/,
      );
    });

    test("it stops when it is aborted", async () => {
      const stop = new AbortController();
      stop.abort(new Error("stopped"));
      const { found, read } = await verifyInPasses(
        new ExportCopy(originals.get("directory false")!),
        undefined,
        stop.signal,
      );
      assert.deepEqual([found, [...read.values()]], ["stopped", [1]]);
    });
  });

  for (const gzip of [false, true])
    test(`nothing in lines of 20 MB, and a duplicate behind them${gzip ? ", compressed" : ""}`, async () => {
      const copy = new ExportCopy(originals.get(`directory ${gzip}`)!);
      const item = copy.of("Patient")[0]!;
      const large = JSON.stringify({
        resourceType: "Patient",
        id: "large",
        photo: [{ data: "Qk1Q".repeat(5_000_000) }],
      });
      copy.write(item, (lines) => [lines[0]!, large, ...lines.slice(1, 4)]);
      const where = await place("directory");
      await copy.put(where);
      assert.equal((await new Export(where, source.baseURL).run("verify")).code, 0);
      copy.write(item, (lines) => [...lines, large]);
      const again = await place("directory");
      await copy.put(again);
      const { report } = await new Export(again, source.baseURL).run("verify");
      assert.match(report.error!.message, /: line 6 holds the resource of line 2 of /);
    });
});
