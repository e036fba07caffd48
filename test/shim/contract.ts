// What the HTTP service promises, wherever it runs: the same tests over a standalone and over Kubernetes.
import { after, before, suite } from "node:test";
import { BulkClient } from "./bulk-client.ts";
import { type Backend, callsOf } from "./contract-calls.ts";
import { exportsContract } from "./contract-exports.ts";
import { requestsContract } from "./contract-requests.ts";
import { serviceContract } from "./contract-service.ts";
import { smart } from "./smart.ts";

export function contract(
  name: string,
  options: { skip?: string | boolean; timeout?: number },
  start: () => Promise<Backend>,
): void {
  suite(`the $export of ${name}`, options, () => {
    let backend: Backend;
    let client: BulkClient;
    before(async () => {
      if (options.skip) return;
      backend = await start();
      client = new BulkClient(backend.base);
    });
    after(() => backend?.close());

    const calls = callsOf(
      () => backend,
      () => client,
    );
    exportsContract(calls);
    requestsContract(calls);
    serviceContract(calls);
    smart(calls.backend, options.skip);
  });
}
