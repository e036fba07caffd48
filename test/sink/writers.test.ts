import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Checkpoint, ShardResult } from "../../src/contracts.ts";
import { FailureError } from "../../src/failure.ts";
import { resultOf } from "../../src/sink/checkpoint.ts";
import { checkpointPath } from "../../src/sink/layout.ts";
import { random } from "../sources/random.ts";
import { sampleOf } from "../tools/sample.ts";
import { before, content, dyingAt, expected, files, planned, printsOf, run } from "./shard-runs.ts";
import { storage } from "./stores.ts";

const { kinds, place } = storage({ apart: true });

/** The lines of a shard in any order. */
const sorted = (text: string) => text.split("\n").toSorted();

for (const kind of kinds)
  describe(`several writers of a shard into ${kind}`, () => {
    const fresh = async () => planned(await place(kind));

    test("killed before and after each call, and the source has another order on each reading: each line comes once", async () => {
      const counted = dyingAt(await fresh(), Number.POSITIVE_INFINITY, false);
      await run({ store: counted.store, nonce: "aaaaaaaa", order: 1 });
      const { calls } = counted;
      const deaths = sampleOf(
        `kills of a writer into ${kind}, another order`,
        Array.from(calls.keys()).flatMap((index) => [false, true].map((after) => ({ k: index + 1, after }))),
        { size: kind === "azure" ? 8 : 16, kindsOf: ({ k, after }) => [`${calls[k - 1]} ${after}`] },
      );
      for (const { k, after } of deaths) {
        const store = await fresh();
        await assert.rejects(run({ store: dyingAt(store, k, after).store, nonce: "aaaaaaaa", order: 1 }), /killed/);
        const result = await run({ store, nonce: "bbbbbbbb", order: 2 });
        assert.deepEqual(
          sorted(content(await files(store, result))),
          sorted(expected),
          `killed ${after ? "after" : "before"} call ${k}, ${calls[k - 1]}`,
        );
        assert.equal(result.seen, 63);
      }
    });

    for (const order of [undefined, 1])
      test(`frozen before each call while a successor ends the shard${order ? ", in another order" : ""}: the first destroys nothing`, async () => {
        const counted = dyingAt(await fresh(), Number.POSITIVE_INFINITY, false);
        await run({ store: counted.store, nonce: "aaaaaaaa", order });
        const { calls } = counted;
        const freezes = sampleOf(
          `freezes of a writer into ${kind}, ${order}`,
          Array.from(calls.keys(), (index) => index + 1),
          { size: kind === "azure" ? 6 : 12, kindsOf: (k) => [calls[k - 1]!] },
        );
        for (const k of freezes) {
          const store = await fresh();
          const at = `frozen before call ${k}, ${calls[k - 1]}`;
          let successor: ShardResult | undefined;
          const first = run({
            store: before(store, async (number) => {
              if (number === k) successor = await run({ store, nonce: "bbbbbbbb", order: order && 2 });
            }),
            nonce: "aaaaaaaa",
            order,
          });
          const end = await first.catch((error: unknown) => {
            assert.equal((error as FailureError).class, "transient", at);
          });
          // Before its first call it has no writer yet, and finds that the shard is done.
          if (k > 1) assert.equal(end, undefined, at);
          else assert.deepEqual(end, successor, at);
          const checkpoint = JSON.parse((await store.read(checkpointPath("Patient-0001")))!.bytes.toString());
          assert.deepEqual(resultOf(checkpoint as Checkpoint), successor, at);
          const found = content(await files(store, successor!));
          if (order === undefined) assert.equal(found, expected, at);
          else assert.deepEqual(sorted(found), sorted(expected), at);
          assert.equal((await printsOf(store, successor!.fingerprints)).length, 63, at);
        }
      });

    test("any interleaving of up to four writers: the shard has one result, with each line once", async () => {
      const seeds = sampleOf(`schedules of writers into ${kind}`, [...Array(kind === "azure" ? 40 : 120).keys()], {
        size: kind === "azure" ? 3 : 10,
        kindsOf: () => "any",
      });
      for (const seed of seeds) {
        const store = await fresh();
        const r = random(seed);
        // A call goes on when its writer is drawn; a writer that is not drawn for long stands still.
        const waiting: (() => void)[] = [];
        const turn = () => new Promise<void>((resolve) => void waiting.push(resolve));
        const nonces = ["aaaaaaaa", "bbbbbbbb", "cccccccc", "dddddddd"].slice(0, 2 + r.int(3));
        let left = nonces.length;
        const ends = nonces.map(async (nonce, order) => {
          for (let begin = r.int(30) * order; begin > 0; begin--) await turn();
          await run({ store: before(store, turn), nonce, order: r.int(2) ? order : undefined }).then(
            () => "ended",
            (error) => {
              if (!(error instanceof FailureError)) throw error;
            },
          );
          left--;
        });
        while (left > 0) {
          await new Promise((resolve) => setImmediate(resolve));
          waiting.splice(r.int(Math.max(1, waiting.length)), 1)[0]?.();
        }
        await Promise.all(ends);
        const result = await run({ store, nonce: "eeeeeeee" }).catch(async (error) => {
          assert.match(String(error), /was finished by another writer/);
          const checkpoint = JSON.parse((await store.read(checkpointPath("Patient-0001")))!.bytes.toString());
          return resultOf(checkpoint as Checkpoint)!;
        });
        assert.deepEqual(sorted(content(await files(store, result))), sorted(expected), `seed ${seed}`);
      }
    });
  });
