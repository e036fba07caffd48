import type { ShardResult } from "../contracts.ts";
import { printer } from "../scan/print.ts";
import { eachWritten, fingerprintBytes } from "../sink/fingerprints.ts";
import type { Store } from "../sink/store.ts";

/** Which resources are lines of the export's output. Of each fingerprint the first 8 bytes are kept, sorted: of 20
 *  million resources that are 160 MB, and the chance that another id has the bytes of one of them is below 10^-11. */
export class ExportedResources {
  readonly #print: (id: string) => Uint8Array;
  readonly #byType: ReadonlyMap<string, BigUint64Array>;

  private constructor(key: string, byType: ReadonlyMap<string, BigUint64Array>) {
    this.#print = printer(key);
    this.#byType = byType;
  }

  /** @param results of all shards, those that close the types included
   *  @param key Plan.key */
  static async read(store: Store, results: readonly ShardResult[], key: string): Promise<ExportedResources> {
    const byType = new Map<string, BigUint64Array>();
    for (const [type, ofType] of Map.groupBy(results, (result) => result.type)) {
      const prints = new BigUint64Array(ofType.reduce((sum, { seen }) => sum + seen, 0));
      let count = 0;
      for (const { fingerprints } of ofType)
        await eachWritten(store, fingerprints, (bytes) => {
          for (let at = 0; at < bytes.length; at += fingerprintBytes) prints[count++] = bytes.readBigUInt64LE(at);
        });
      byType.set(type, prints.subarray(0, count).sort());
    }
    return new ExportedResources(key, byType);
  }

  has(type: string, id: string): boolean {
    const prints = this.#byType.get(type);
    if (!prints) return false;
    const wanted = Buffer.from(this.#print(id)).readBigUInt64LE();
    let [low, high] = [0, prints.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (prints[middle]! < wanted) low = middle + 1;
      else high = middle;
    }
    return prints[low] === wanted;
  }
}
