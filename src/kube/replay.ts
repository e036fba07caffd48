import { sha256Of } from "../digest.ts";
import type { Replay } from "../shim/auth/replay.ts";
import { type KubeClient, type KubeObject, pathOf, resources } from "./client.ts";
import { microTime } from "./election.ts";
import { isAlreadyExists, isNotFound, toKubeFailure } from "./error.ts";

interface AssertionLease extends KubeObject {
  spec?: { renewTime?: string; leaseDurationSeconds?: number };
}

const assertionLabel = "fhirexport.dev/assertion";
/** how often each replica deletes expired Leases */
const sweepMs = 60_000;
/** Leases deleted in one sweep; the others wait for the next one */
const sweepLimit = 500;

/** The assertions (a client's signed proofs) that were accepted, over all replicas of the HTTP service. Each is a Lease
 *  whose name is the lock: the API server creates a name only once. */
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
        metadata: { name: `fhir-export-assertion-${digest}`, labels: { [assertionLabel]: "true" } },
        spec: {
          holderIdentity: "fhir-export-shim",
          leaseDurationSeconds: Math.max(1, Math.ceil((expires.getTime() - now.getTime()) / 1000)),
          renewTime: microTime(now),
        },
      } as AssertionLease);
    } catch (error) {
      if (isAlreadyExists(error)) return false;
      throw toKubeFailure(error);
    }
    // Nobody waits for the sweep; if it fails, the next one deletes what it left.
    if (now.getTime() - this.#sweptAt > sweepMs) {
      this.#sweptAt = now.getTime();
      this.sweep(now).catch(() => {});
    }
    return true;
  }

  /** Deletes the Leases of assertions that have expired, at most 500. */
  async sweep(now: Date): Promise<void> {
    const path = pathOf(resources.leases, { namespace: this.#namespace });
    const { items } = await this.#client.list<AssertionLease>(path, { labelSelector: assertionLabel });
    const expired = items.filter(
      ({ spec }) => Date.parse(spec?.renewTime ?? "") + (spec?.leaseDurationSeconds ?? 0) * 1000 < now.getTime(),
    );
    for (const { metadata } of expired.slice(0, sweepLimit)) {
      await this.#client
        .delete(pathOf(resources.leases, { namespace: this.#namespace, name: metadata.name }))
        .catch((error) => {
          if (!isNotFound(error)) throw error;
        });
    }
  }
}
