import type { Task } from "../../src/contracts.ts";
import type { Behaviour, Fault } from "../sources/faults.ts";
import { type Random, random } from "../sources/random.ts";
import { behaviours } from "./behaviours.ts";
import { type Data, drawData, textOf } from "./data.ts";
import { filters } from "./filters.ts";
import type { Blow } from "./process.ts";
import type { StorageFault, World, Write } from "./world.ts";

const day = 86_400_000;

/** Draws a world. The same seed gives the same world. Each part has numbers of its own, so that a new part leaves the
 *  others as they were. */
export function drawWorld(seed: number): World {
  const of = (part: string) => random(hashOf(`${seed} ${part}`));
  const begin = Date.UTC(2026, 2, 1) + of("begin").int(day);
  const behaviour = drawBehaviour(of);
  const isCalm = of("calm").chance(0.25);
  const times = of("times");
  const ahead = times.pick([0, 0, 0, 0, 5000, -5000, 300_000, -300_000]);
  const data = drawData(of("data"), begin + ahead, behaviour.uuidVersions);
  return {
    seed,
    begin,
    ahead: { source: ahead, worker: 0 },
    latency: {
      source: times.pick<[number, number]>([
        [5, 20],
        [1, 400],
      ]),
      storage: [2, 30],
    },
    behaviour: { ...behaviour, ...(of("poison").chance(0.04) && drawPoison(of("poisoned"), data)) },
    resources: data.resources,
    writes: drawWrites(of("writes"), data),
    faults: isCalm ? [] : drawFaults(of("faults")),
    storage: of("storage").pick(["azure", "directory"]),
    storageFaults: isCalm ? [] : drawStorageFaults(of("storage faults")),
    blows: isCalm ? [] : drawBlows(of("blows")),
    cancel: !isCalm && of("cancel").chance(0.06) ? 1 + of("cancel at").int(120) : undefined,
    export: drawRequest(of, data, begin + ahead),
    ...drawSettings(of("settings")),
  };
}

/** A hash of a text, by FNV-1a, whose bits are mixed once more. */
function hashOf(text: string): number {
  let hash = 0x811c9dc5;
  for (let at = 0; at < text.length; at++) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x45d9f3b);
  return (hash ^ (hash >>> 13)) >>> 0;
}

function drawSettings(r: Random): Pick<World, "source" | "plan" | "blockBytes"> {
  return {
    source: {
      count: r.pick([1, 3, 10, 25, 100]),
      settleSeconds: r.pick([0, 0, 0, 2, 30]),
      history: r.chance(0.9),
      ...(r.chance(0.1) && { sort: false }),
      retrySeconds: r.pick([5, 60, 600]),
      share: { requests: r.pick([1, 2, 4]), ...(r.chance(0.1) && { perSecond: 20 }) },
    },
    plan: {
      shardResources: r.pick([3, 20, 60, 1000]),
      inlineResources: r.pick([0, 0, 50, 100_000]),
      parallelism: r.pick([1, 1, 2, 3]),
    },
    blockBytes: r.pick([2000, 8192, 65_536]),
  };
}

type Streams = (part: string) => Random;

/** Draws each member of a Behaviour with a small chance, so that a world has a few of them. */
function drawBehaviour(of: Streams): Behaviour {
  if (of("plain").chance(0.15)) return {};
  const drawn = behaviours.map(([name, chance, draw]) => {
    const r = of(`behaviour ${name}`);
    return r.chance(chance) ? draw(r) : {};
  });
  return Object.assign({}, ...drawn);
}

function drawPoison(r: Random, { resources }: Data): Behaviour {
  const ids = Array.from({ length: 1 + r.int(2) }, () => r.pick(resources).id);
  return { poison: { ids, as: r.chance(0.5) ? 500 : "cut" } };
}

function drawWrites(r: Random, data: Data): Write[] {
  const writes: Write[] = [];
  const write = (request: number, ago: number): Write => {
    const types = data.types.filter((type) => type !== "Group");
    const old = data.resources.filter(({ type }) => type !== "Group");
    if (r.chance(0.25)) {
      const type = r.pick(types);
      const id = `new-${writes.length}`;
      return { request, ago, type, id, text: textOf(type, id, data.body(r, type)) };
    }
    const { type, id } = r.pick(old);
    const isDeleted = r.chance(0.3);
    return { request, ago, type, id, text: isDeleted ? undefined : textOf(type, id, data.body(r, type)) };
  };
  const before = r.chance(0.5) ? r.int(15) : 0;
  const agos = Array.from({ length: before }, () => r.int(r.pick([500, 5000, 100_000, 40 * day]))).sort(
    (a, b) => b - a,
  );
  for (const ago of agos) writes.push(write(0, ago));
  const during = r.chance(0.6) ? r.int(r.pick([3, 20, 60])) : 0;
  for (let n = 0; n < during; n++) writes.push(write(1 + r.int(r.pick([20, 100, 400])), 0));
  return writes;
}

/** Faults with which a source answers all the same, so that it may have them for ever. */
const lasting: Fault["kind"][] = ["wrongType", "outcome", "shortPage", "doubled", "overlap", "noNext", "repeatNext"];

function drawFaults(r: Random): Fault[] {
  const kinds: (() => Fault)[] = [
    () => ({ kind: "status", status: r.pick([408, 429, 500, 502, 503, 504]), ...(r.chance(0.3) && { retryAfter: 2 }) }),
    () => ({ kind: "status", status: 500, match: "_lastUpdated" }),
    () => ({ kind: "status", status: r.pick([400, 403, 404, 405, 410, 413, 422, 501]) }),
    () => ({ kind: r.pick(["html", "notBundle", "outcomeInstead"] as const) }),
    () => ({ kind: r.pick(["repeatNext", "foreignNext"] as const) }),
    () => ({ kind: "cut", clean: r.chance(0.5) }),
    () => ({ kind: "drop" }),
    () => ({ kind: "slow", ms: r.pick([3000, 400_000]) }),
    () => ({ kind: "wrongType" }),
    () => ({ kind: "outcome" }),
    () => ({ kind: r.pick(["garbage", "badToken"] as const) }),
    () => ({ kind: "shortPage", missing: 1 + r.int(3) }),
    () => ({ kind: "doubled" }),
    () => ({ kind: "overlap" }),
    () => ({ kind: "noNext" }),
    () => ({ kind: "expired" }),
  ];
  if (r.chance(0.4)) return [];
  return Array.from({ length: 1 + r.int(4) }, () => {
    const fault = r.pick(kinds)();
    const times = r.pick([1, 1, 1, 1, 2, 2, 6, 6, "always"] as const);
    const skip = r.int(r.pick([10, 60, 200]));
    return { ...fault, skip, times: times === "always" && !lasting.includes(fault.kind) ? 1 : times };
  });
}

function drawStorageFaults(r: Random): StorageFault[] {
  if (r.chance(0.6)) return [];
  return Array.from({ length: 1 + r.int(3) }, () => ({
    request: 1 + r.int(r.pick([20, 150])),
    times: r.pick([1, 1, 2, 4]),
    kind: r.pick(["refuse", "lose", "lose", "dropBlocks"] as const),
  }));
}

function drawBlows(r: Random): Blow[][] {
  if (r.chance(0.35)) return [];
  return Array.from({ length: 1 + r.int(6) }, () => {
    if (r.chance(0.3)) return [];
    const blow = (): Blow => {
      const kind = r.pick(["killBefore", "killAfter", "freeze"] as const);
      return {
        peer: r.pick(["source", "storage", "storage"] as const),
        request: 1 + r.int(r.pick([6, 25, 80])),
        kind,
        ...(kind === "freeze" && { ms: r.pick([5000, 70_000, 3_600_000]) }),
      };
    };
    return Array.from({ length: 1 + r.int(2) }, blow);
  });
}

function drawRequest(of: Streams, data: Data, begin: number): Task["export"] {
  const r = of("request");
  const level = r.pick(["System", "System", "Patient", "Group"] as const);
  const isGroup = level === "Group" && data.groups.length > 0;
  const types = of("types").chance(0.3) ? drawTypes(of("types"), data, level) : [];
  const typeFilters = drawFilters(of("filters"), types.length > 0 ? types : drawTypes(undefined, data, level));
  const since = of("since").chance(0.25) ? begin - of("since ago").pick([20_000, day, 100 * day]) : undefined;
  const until = of("until").chance(0.12) ? begin - of("until ago").pick([0, 3000, day]) : undefined;
  const some = data.patients.filter(() => r.chance(0.4));
  const isSome = level === "Patient" && some.length > 0 && r.chance(0.4);
  const elements = of("elements");
  const form = of("form");
  return {
    level: isGroup ? "Group" : level === "Group" ? "Patient" : level,
    ...(isGroup && { groupId: r.pick(data.groups) }),
    ...(isSome && { patients: some }),
    ...(types.length > 0 && { types }),
    ...(typeFilters.length > 0 && { typeFilters }),
    ...(elements.chance(0.1) && {
      elements: elements.pick([["status"], ["id"], ["subject", "code"], ["Observation.value"]]),
    }),
    ...(since !== undefined && { since: new Date(since).toISOString() }),
    ...(until !== undefined && { until: new Date(until).toISOString() }),
    gzip: form.chance(0.2),
    maxFileBytes: form.pick([4000, 30_000, 1 << 30]),
    onResourceError: form.chance(0.9) ? "Record" : "Fail",
  };
}

/** Some types of the level, or all. */
function drawTypes(r: Random | undefined, { types }: Data, level: string): string[] {
  const inLevel = types.filter((type) => level === "System" || !outside.includes(type));
  return r ? inLevel.filter(() => r.chance(0.5)) : inLevel;
}

/** Types that are in no patient's compartment. */
const outside = ["Organization", "Practitioner", "Device", "Location"];

function drawFilters(r: Random, types: readonly string[]): string[] {
  if (!r.chance(0.2)) return [];
  const known = filters.filter(({ type }) => types.includes(type));
  return known.filter(() => r.chance(0.3)).map(({ filter }) => filter);
}
