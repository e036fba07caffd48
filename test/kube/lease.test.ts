import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { KubeClient, type KubeObject, pathOf, resources } from "../../src/kube/client.ts";
import { type LeaseSpec, microTime } from "../../src/kube/election.ts";
import { isConflict } from "../../src/kube/error.ts";
import { type ElectorOptions, LeaderElector } from "../../src/kube/lease.ts";
import { makeLogger } from "../../src/log.ts";
import { type APIProxy, startAPIProxy } from "../tools/api-proxy.ts";
import { kubeconfig, makeNamespace, type Namespace, needsPlane, until } from "../tools/namespace.ts";

interface Lease extends KubeObject {
  spec: LeaseSpec;
}
/** This is longer than any wait of a test: a candidate that gets the lease within it got it because it was free. */
const forever = { leaseSeconds: 600, renewSeconds: 300, retrySeconds: 0.1 };
const short = { leaseSeconds: 5, renewSeconds: 4, retrySeconds: 0.2 };

describe("leader election on a Lease", needsPlane, () => {
  let ns: Namespace;
  let proxy: APIProxy;
  const closers: (() => Promise<void>)[] = [];

  before(async () => {
    ns = await makeNamespace();
    proxy = await startAPIProxy(kubeconfig());
  });
  afterEach(async () => {
    proxy.fault = () => undefined;
    for (const close of closers.splice(0)) await close();
  });
  after(async () => {
    await proxy?.close();
    await ns?.remove();
  });

  const pathTo = (name: string) => pathOf(resources.leases, { namespace: ns.name, name });
  const get = (name: string) => ns.client.get<Lease>(pathTo(name));
  /** A candidate. `die` cuts it off from the API server without notice. */
  function candidate(name: string, identity: string, options: Partial<ElectorOptions>, path = kubeconfig()) {
    const client = KubeClient.load(path);
    const stop = new AbortController();
    const heard: boolean[] = [];
    const elector = new LeaderElector(
      client,
      { namespace: ns.name, name, identity, ...forever, ...options, onLeading: (leading) => heard.push(leading) },
      makeLogger({ part: "test" }, "silent"),
    );
    const own = { elector, heard, wins: undefined as number | undefined, die: () => client.close() };
    closers.push(async () => {
      stop.abort();
      await client.close();
      await elector.release();
    });
    const run = (signal = stop.signal): Promise<void> => {
      const won = elector.acquire(AbortSignal.any([signal, stop.signal])).then(() => void (own.wins = Date.now()));
      // A test that failed does not wait for it.
      won.catch(() => {});
      return won;
    };
    const lead = () => {
      run();
      return until(`${identity} leads`, async () => own.wins);
    };
    return Object.assign(own, { run, lead });
  }
  const edit = async (name: string, spec: LeaseSpec) => {
    for (;;) {
      const lease = await get(name);
      try {
        return await ns.client.replace(pathTo(name), { ...lease, spec: { ...lease.spec, ...spec } });
      } catch (error) {
        if (!isConflict(error)) throw error;
      }
    }
  };
  const renewed = async (name: string) => {
    const { renewTime } = (await get(name)).spec;
    await until("it is renewed", async () => (await get(name)).spec.renewTime !== renewTime);
  };

  test("five candidates want a lease that does not exist: one makes it, and renews it from then on", async () => {
    const all = ["a", "b", "c", "d", "e"].map((identity) => candidate("race", identity, {}));
    const stopThese = new AbortController();
    const runs = all.map((one) => one.run(stopThese.signal));
    await Promise.race(runs);
    await renewed("race");
    await renewed("race");
    const leading = all.filter(({ elector }) => elector.leads());
    assert.equal(leading.length, 1);
    const { spec } = await get("race");
    assert.deepEqual(
      [spec.holderIdentity, spec.leaseTransitions, spec.leaseDurationSeconds],
      [leading[0]!.elector.identity, 0, 600],
    );
    for (const time of [spec.acquireTime, spec.renewTime])
      assert.match(time ?? "", /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/);
    assert.ok(spec.acquireTime! < spec.renewTime!, "acquireTime is that of the first write");
    assert.deepEqual(leading[0]!.heard, [false, true]);
    stopThese.abort();
    await Promise.allSettled(runs);
    for (const one of all.filter((one) => one !== leading[0])) {
      assert.deepEqual(one.heard, [false]);
      assert.throws(() => one.elector.check(), /does not lead/);
    }
  });

  test("a lease that is given back is taken at once, long before it would have expired", async () => {
    const [one, two] = [candidate("released", "one", {}), candidate("released", "two", {})];
    await one.lead();
    two.run();
    await renewed("released");
    assert.equal(two.elector.leads(), false);
    await one.elector.release();
    assert.throws(() => one.elector.check(), /does not lead/, "it writes nothing more");
    await until("the other leads", async () => two.wins);
    assert.deepEqual([one.heard, one.elector.lost.aborted], [[false, true, false], false]);
    const { spec } = await get("released");
    assert.deepEqual([spec.holderIdentity, spec.leaseTransitions], ["two", 1]);
    await two.elector.release();
    const { holderIdentity, leaseDurationSeconds, leaseTransitions } = (await get("released")).spec;
    assert.deepEqual([holderIdentity ?? "", leaseDurationSeconds, leaseTransitions], ["", 1, 1]);
  });

  test("after the death of the holder another takes the lease when it has not changed for its duration, and not before", async () => {
    const [one, two] = [candidate("dead", "one", short), candidate("dead", "two", short)];
    await one.lead();
    two.run();
    await renewed("dead");
    await one.die();
    const { spec } = await get("dead");
    await until("the other leads", async () => two.wins);
    const waited = two.wins! - Date.parse(spec.renewTime!);
    assert.ok(waited >= 5000, `it waited ${waited} ms`);
    const taken = (await get("dead")).spec;
    assert.deepEqual([taken.holderIdentity, taken.leaseTransitions], ["two", 1]);
    assert.ok(taken.acquireTime! > spec.acquireTime!);
    assert.equal(one.elector.leads(), false, "the dead one had stopped before");
  });

  test("a new candidate waits for the whole duration, too, whatever the times in the lease say", async () => {
    const long = microTime(new Date(Date.now() - 3_600_000));
    const spec = {
      holderIdentity: "gone",
      leaseDurationSeconds: 3,
      acquireTime: long,
      renewTime: long,
      leaseTransitions: 7,
    };
    const lease = { apiVersion: "coordination.k8s.io/v1", kind: "Lease", metadata: { name: "late" }, spec };
    await ns.client.create<Lease>(pathOf(resources.leases, { namespace: ns.name }), lease);
    const one = candidate("late", "one", short);
    const start = Date.now();
    await one.lead();
    assert.ok(one.wins! - start >= 3000);
    assert.equal((await get("late")).spec.leaseTransitions, 8);
  });

  test("a candidate whose clock is hours off does not take a lease that is being renewed", async () => {
    const shifted = (hours: number) => ({
      ...short,
      leaseSeconds: 2,
      renewSeconds: 1.9,
      date: () => new Date(Date.now() + hours * 3_600_000),
    });
    const one = candidate("skew", "one", { ...shifted(-5), renewSeconds: 300 });
    await one.lead();
    const others = [candidate("skew", "ahead", shifted(7)), candidate("skew", "behind", shifted(-12))];
    const stopThese = new AbortController();
    const runs = others.map((other) => other.run(stopThese.signal));
    // If this machine stalls for longer than the lease lasts, the holder looks dead. So renewals are counted, and not
    // timed.
    for (let renewals = 0; renewals < 25; renewals++) await renewed("skew");
    const { spec } = await get("skew");
    stopThese.abort();
    await Promise.allSettled(runs);
    assert.deepEqual([spec.holderIdentity, spec.leaseTransitions], ["one", 0]);
    assert.deepEqual(
      others.map(({ heard }) => heard),
      [[false], [false]],
    );
  });

  test("the leader keeps the lease when the API server fails or is silent for less than the deadline", async () => {
    const one = candidate("shaken", "one", { leaseSeconds: 15, renewSeconds: 12, retrySeconds: 0.1 }, proxy.kubeconfig);
    await one.lead();
    // A call that takes too long is given up, and another one is tried.
    for (const [fault, times] of [
      [500, 4],
      [503, 4],
      [429, 4],
      [401, 4],
      [403, 4],
      [422, 4],
      ["hang", 1],
    ] as const) {
      let failed = 0;
      proxy.fault = () => {
        failed += 1;
        return fault;
      };
      await until(`${fault}, repeatedly`, async () => failed >= times);
      proxy.fault = () => undefined;
      await renewed("shaken");
    }
    assert.ok(one.elector.leads());
    one.elector.check();
    assert.deepEqual([one.elector.lost.aborted, one.heard], [false, [false, true]]);
    assert.equal((await get("shaken")).spec.leaseTransitions, 0);
  });

  for (const fault of [500, "hang"] as const)
    test(`${fault} beyond the deadline: the lease is lost before another may take it`, async () => {
      const name = `lost-${fault}`;
      const [one, two] = [candidate(name, "one", short, proxy.kubeconfig), candidate(name, "two", short)];
      await one.lead();
      two.run();
      await renewed(name);
      proxy.fault = () => fault;
      await until("it is lost", async () => one.elector.lost.aborted);
      const lostAt = Date.now();
      const { spec } = await get(name);
      assert.equal(spec.holderIdentity, "one", "nobody else yet");
      assert.ok(lostAt - Date.parse(spec.renewTime!) >= 4000, "not before its deadline");
      assert.match(one.elector.lost.reason.message, /leader election lost: the lease was not renewed in time/);
      assert.throws(() => one.elector.check(), /does not lead/);
      assert.deepEqual(one.heard, [false, true, false]);
      await until("the other leads", async () => two.wins);
      proxy.fault = () => undefined;
      const calls = proxy.calls.length;
      await one.elector.release();
      assert.equal(proxy.calls.length, calls, "what it does not hold it does not give back");
      assert.equal((await get(name)).spec.holderIdentity, "two");
    });

  for (const asks of [true, false])
    test(`a process that was stopped notices it by its clock before it writes${asks ? "" : "; also when nothing calls check()"}`, async () => {
      const name = `frozen-${asks}`;
      let skipped = 0;
      const one = candidate(name, "one", { now: () => performance.now() + skipped, retrySeconds: 1 }, proxy.kubeconfig);
      await one.lead();
      one.elector.check();
      const writes = () =>
        proxy.calls.filter(({ method, url }) => method !== "GET" && url.endsWith(`/${name}?fieldValidation=Strict`))
          .length;
      await renewed(name);
      const before = await until("between two renewals", async () => {
        const count = writes();
        await sleep(100);
        return writes() === count && count;
      });
      skipped = 301_000;
      if (asks) {
        assert.throws(() => one.elector.check(), /does not lead/);
        assert.ok(one.elector.lost.aborted, "no timer needed");
        await sleep(2500);
      } else await until("it is lost", async () => one.elector.lost.aborted);
      assert.equal(writes(), before, "it was not renewed");
    });

  test("an answer that comes after the deadline does not count", async () => {
    let skipped = 0;
    const one = candidate("answer", "one", { now: () => performance.now() + skipped }, proxy.kubeconfig);
    await one.lead();
    const held = Promise.withResolvers<undefined>();
    let waiting = false;
    proxy.fault = () => {
      waiting = true;
      return held.promise;
    };
    await until("a renewal is on its way", async () => waiting);
    skipped = 301_000;
    held.resolve(undefined);
    await until("it is lost", async () => one.elector.lost.aborted);
    assert.equal(one.elector.leads(), false);
  });

  test("the lease is lost at once when it has another name in it", async () => {
    const one = candidate("robbed", "one", {});
    await one.lead();
    await edit("robbed", { holderIdentity: "thief" });
    await until("it is lost", async () => one.elector.lost.aborted);
    assert.match(one.elector.lost.reason.message, /leader election lost: thief has taken it/);
    assert.equal((await get("robbed")).spec.holderIdentity, "thief");
  });

  test("the leader keeps a lease that someone labels, and makes a lease again that someone deletes", async () => {
    const one = candidate("touched", "one", {});
    await one.lead();
    await ns.client.patch(pathTo("touched"), { metadata: { labels: { a: "b" } } });
    await renewed("touched");
    await renewed("touched");
    const { metadata, spec } = await get("touched");
    assert.deepEqual([metadata.labels, spec.holderIdentity, spec.leaseTransitions], [{ a: "b" }, "one", 0]);
    await ns.client.delete(pathTo("touched"));
    await until(
      "it is there again",
      async () => (await get("touched").catch(() => undefined))?.spec.holderIdentity === "one",
    );
    assert.ok(one.elector.leads());
  });

  test("the candidate has the lease even if the answer to its write is lost", async () => {
    const one = candidate("deaf", "one", {}, proxy.kubeconfig);
    let cut = 0;
    // The lease is made, and the candidate that made it gets an error.
    proxy.fault = async ({ method }) => {
      if (method !== "POST" || cut++) return undefined;
      const spec = { holderIdentity: "one", leaseDurationSeconds: 600, leaseTransitions: 0 };
      const lease = { apiVersion: "coordination.k8s.io/v1", kind: "Lease", metadata: { name: "deaf" }, spec };
      await ns.client.create<Lease>(pathOf(resources.leases, { namespace: ns.name }), lease);
      return 504;
    };
    await one.lead();
    assert.equal((await get("deaf")).spec.leaseTransitions, 0);
  });

  test("a name that no Lease can have is an error, and not tried for ever; waiting ends with its signal", async () => {
    await assert.rejects(candidate("No_Name", "one", {}).run(), { class: "terminal" });
    const holder = candidate("taken", "holder", {});
    await holder.lead();
    const ending = new AbortController();
    const waiting = candidate("taken", "one", {}).run(ending.signal);
    ending.abort(new Error("SIGTERM"));
    await assert.rejects(waiting, { message: "SIGTERM" });
  });

  test("a client that does not lead sends reads and nothing else", async () => {
    const one = candidate("guard", "one", {});
    const client = KubeClient.load(proxy.kubeconfig, { beforeWrite: () => one.elector.check() });
    closers.push(() => client.close());
    const object = { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "guarded" } };
    const path = pathOf(resources.configMaps, { namespace: ns.name });
    proxy.calls.length = 0;
    await client.list(path);
    for (const write of [
      () => client.create(path, object),
      () => client.replace(`${path}/guarded`, object),
      () => client.patch(`${path}/guarded`, {}),
      () => client.apply(`${path}/guarded`, object, "test"),
      () => client.delete(`${path}/guarded`),
      () => client.request("POST", path, object),
    ])
      await assert.rejects(write, { name: "FailureError", class: "transient", message: /does not lead/ });
    assert.deepEqual(
      proxy.calls.map(({ method }) => method),
      ["GET"],
    );
    await one.lead();
    await client.create(path, object);
  });
});
