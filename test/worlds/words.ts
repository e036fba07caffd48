import type { World } from "./world.ts";

/** What a world may have besides its source, its faults and its blows. */
const traits: [name: string, holds: (world: World) => boolean][] = [
  ["late waker", ({ blows }) => blows.flat().some(({ ms = 0 }) => ms > 60_000)],
  ["writes before", ({ writes }) => writes.some(({ request }) => request === 0)],
  ["writes meanwhile", ({ writes }) => writes.some(({ request, text }) => request > 0 && text !== undefined)],
  ["deletions meanwhile", ({ writes }) => writes.some(({ request, text }) => request > 0 && text === undefined)],
  ["cancelled", ({ cancel }) => cancel !== undefined],
  ["source's clock ahead", ({ ahead }) => ahead.source > 0],
  ["source's clock behind", ({ ahead }) => ahead.source < 0],
  ["patients", (world) => world.export.patients !== undefined],
  ["types", (world) => world.export.types !== undefined],
  ["typeFilters", (world) => world.export.typeFilters !== undefined],
  ["elements", (world) => world.export.elements !== undefined],
  ["since", (world) => world.export.since !== undefined],
  ["until", (world) => world.export.until !== undefined],
  ["gzip", (world) => world.export.gzip],
  ["onResourceError Fail", (world) => world.export.onResourceError === "Fail"],
  ["history off", ({ source }) => !source.history],
  ["sort off", ({ source }) => source.sort === false],
  ["settleSeconds", ({ source }) => source.settleSeconds > 0],
  ["parallelism", ({ plan }) => plan.parallelism > 1],
  ["inline", ({ plan }) => plan.inlineResources > 1000],
];

/** What is special about a world, each in a word or two: for statistics, and for people. */
export function featuresOf(world: World): string[] {
  const { behaviour, faults, storageFaults, blows, storage, export: request } = world;
  return [
    ...new Set([
      `storage ${storage}`,
      `level ${request.level}`,
      ...Object.entries(behaviour).map(
        ([name, value]) =>
          `source ${name}${typeof value === "string" || Array.isArray(value) ? ` ${String(value)}` : ""}`,
      ),
      ...faults.map((fault) => `fault ${fault.kind}${fault.kind === "status" ? ` ${fault.status}` : ""}`),
      ...storageFaults.map(({ kind }) => `storage fault ${kind}`),
      ...blows.flat().map(({ kind, peer }) => `${kind} at ${peer}`),
      ...traits.filter(([, holds]) => holds(world)).map(([name]) => name),
    ]),
  ];
}

/** A world in words, a line for each thing that may matter. */
export function describeWorld(world: World): string {
  const { seed, behaviour, resources, writes, faults, storage, storageFaults, blows, cancel, ahead, latency } = world;
  const counts = [...Map.groupBy(resources, ({ type }) => type)].map(([type, own]) => `${own.length} ${type}`);
  const lines = [
    `world ${seed}, which begins at ${new Date(world.begin).toISOString()}`,
    `  data: ${counts.join(", ")}`,
    `  source: ${show(behaviour)}; its clock is ${ahead.source} ms ahead; answers in ${latency.source.join(" to ")} ms`,
    `  request: ${show(world.export)}`,
    `  settings: ${show({ ...world.source, ...world.plan, blockBytes: world.blockBytes })}; storage: ${storage}`,
    ...faults.map((fault) => `  fault of the source: ${show(fault)}`),
    ...storageFaults.map((fault) => `  fault of storage: ${show(fault)}`),
    ...blows.flatMap((own, process) => own.map((blow) => `  process ${process + 1}: ${show(blow)}`)),
    ...(cancel === undefined ? [] : [`  cancelled at request ${cancel} to storage`]),
    ...writes.map(
      ({ request, ago, type, id, text }) =>
        `  ${request === 0 ? `${ago} ms before` : `at request ${request} to the source`}: ${text ? "write" : "delete"} ${type}/${id}`,
    ),
  ];
  return lines.join("\n");
}

const show = (value: object): string =>
  Object.entries(value)
    .map(([name, one]) => `${name} ${typeof one === "object" ? JSON.stringify(one) : one}`)
    .join(", ") || "well-behaved";

/** What went wrong, without names and numbers: two worlds that fail alike have the same. */
export const kindOf = ({ wrong, end }: { wrong: readonly string[]; end: string }): string =>
  `${end}: ${(wrong[0] ?? "")
    .replace(/[A-Z][A-Za-z]+\/[\w.-]+/g, "…")
    .replace(/[A-Z][A-Za-z]+-\d+/g, "…")
    .replace(/\d+/g, "N")}`;
