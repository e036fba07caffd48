import { sha256Of } from "../digest.ts";
import type { Replay } from "../shim/auth/replay.ts";
import { type KubeClient, type KubeObject, pathOf, resources } from "./client.ts";
import { isAlreadyExists, isNotFound, toKubeFailure } from "./error.ts";

interface Lease extends KubeObject {
  spec?: { renewTime?: string; leaseDurationSeconds?: number };
}

const label = "fhirexport.dev/assertion";
/** expired ones are looked for so often, by whichever replica */
const sweepMs = 60_000;
/** and so many at a time: the rest waits for the next time */
const sweepMost = 500;

/** Assertions that were taken, over all replicas: each is a Lease whose name is the lock, as the API server makes a name once only. */
export class KubeReplay implements Replay {
  readonly #client: KubeClient;
  readonly #namespace: string;
  #sweptAt = 0;

  constructor(client: KubeClient, namespace: string) {
    this.#client = client;
    this.#namespace = namespace;
  }

  async first(issuer: string, jti: string, expires: Date): Promise<boolean> {
    const digest = sha256Of(JSON.stringify([issuer, jti])).slice(0, 40);
    const now = new Date();
    try {
      await this.#client.create(pathOf(resources.leases, { namespace: this.#namespace }), {
        apiVersion: "coordination.k8s.io/v1",
        kind: "Lease",
        metadata: { name: `fhir-export-assertion-${digest}`, labels: { [label]: "true" } },
        spec: {
          holderIdentity: "fhir-export-shim",
          leaseDurationSeconds: Math.max(1, Math.ceil((expires.getTime() - now.getTime()) / 1000)),
          // the API wants microseconds
          renewTime: now.toISOString().replace("Z", "000Z"),
        },
      } as Lease);
    } catch (error) {
      if (isAlreadyExists(error)) return false;
      throw toKubeFailure(error);
    }
    // nobody waits for it, and the next one tries again
    if (now.getTime() - this.#sweptAt > sweepMs) {
      this.#sweptAt = now.getTime();
      this.sweep(now).catch(() => {});
    }
    return true;
  }

  /** Deletes what has expired. */
  async sweep(now: Date): Promise<void> {
    const path = pathOf(resources.leases, { namespace: this.#namespace });
    const { items } = await this.#client.list<Lease>(path, { labelSelector: label });
    const expired = items.filter(
      ({ spec }) => Date.parse(spec?.renewTime ?? "") + (spec?.leaseDurationSeconds ?? 0) * 1000 < now.getTime(),
    );
    for (const { metadata } of expired.slice(0, sweepMost)) {
      await this.#client
        .delete(pathOf(resources.leases, { namespace: this.#namespace, name: metadata.name }))
        .catch((error) => {
          if (!isNotFound(error)) throw error;
        });
    }
  }
}
