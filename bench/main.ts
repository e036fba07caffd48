/** `npm run bench [-- --json] [--long] [--only NAME]`: how fast the worker is, as ratios to peers in the same run. The
 *  bars are in docs/internals/byte-engine.md#bars. The machine may be slow or busy: rounds are interleaved, and the
 *  medians of ratios count. `--long` also exports 10 GB, to see that memory stays flat. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { parseArgs } from "node:util";
import { gzipRates, Lab, type LabOptions, type Measured, pinned } from "./lab.ts";
import { benchScan } from "./scan.ts";

const { values } = parseArgs({
  options: {
    json: { type: "boolean" },
    long: { type: "boolean" },
    only: { type: "string" },
    rounds: { type: "string" },
  },
});
const say = (line: string) => (values.json ? console.error(line) : console.log(line));
const rounds = Number(values.rounds ?? 5);
const wants = (name: string) => !values.only || name.startsWith(values.only);
const median = (list: number[]) => list.toSorted((a, b) => a - b)[list.length >> 1]!;
const round = (value: number, digits = 2) => Number(value.toFixed(digits));

const results: Record<string, number> = {};
const started = performance.now();

/** The types of a mix: of five resources, one is a Patient, three are Observations, and one is an Encounter. */
const mix = (resources: number) => ({
  Patient: resources / 5,
  Observation: (resources * 3) / 5,
  Encounter: resources / 5,
});

const head = `${"".padEnd(22)}${["MB/s", "resources/s", "CPU s/GB", "RSS MiB"].map((name) => name.padStart(14)).join("")}`;
function printRuns(name: string, runs: Measured[]): void {
  const of = (figure: (run: Measured) => number) => median(runs.map(figure));
  const figures = [
    of((run) => run.pageBytes / 1e6 / run.seconds).toFixed(0),
    of((run) => run.resources / run.seconds).toFixed(0),
    of((run) => run.cpuSeconds / (run.pageBytes / 1e9)).toFixed(2),
    Math.max(...runs.map((run) => run.rssMiB)).toFixed(0),
  ];
  say(`${name.padEnd(22)}${figures.map((figure) => figure.padStart(14)).join("")}`);
}

const rate = ({ pageBytes, seconds }: Measured) => pageBytes / seconds;

/** How many times as fast we are. Where both have as many rounds, it is the median of the ratios of each round, because
 *  what slows one round slows all of its runs; otherwise the ratio of the medians. */
function ratioOf(ours: Measured[], theirs: Measured[]): number {
  if (ours.length === theirs.length) return median(ours.map((run, i) => rate(run) / rate(theirs[i]!)));
  return median(ours.map(rate)) / median(theirs.map(rate));
}

/** A ratio that must not fall below its bar. */
interface Bar {
  /** name of the result */
  key: string;
  least: number;
  /** more figures, printed behind it */
  note?: string;
}

function printRatio({ key, least, note = "" }: Bar, ours: Measured[], theirs: Measured[]): void {
  const found = ratioOf(ours, theirs);
  results[key] = round(found);
  say(`  ${key}: ${found.toFixed(2)} (bar ${least})${note}`);
}

/** Runs all of `methods` in turn, `times` times. */
async function interleave<K extends string>(
  methods: Record<K, () => Promise<Measured>>,
  times: number,
): Promise<Record<K, Measured[]>> {
  const runs = Object.fromEntries(Object.keys(methods).map((name) => [name, [] as Measured[]])) as Record<
    K,
    Measured[]
  >;
  for (let i = 0; i < times; i++)
    for (const name of Object.keys(methods) as K[]) runs[name].push(await methods[name]());
  return runs;
}

/** A digest of lines that is the same whoever wrote them: of their values, since JSON.stringify spells numbers in its
 *  own way, in any order. */
function digestOf(lines: Buffer): { resources: number; digest: string } {
  const all = lines
    .toString()
    .split("\n")
    .slice(0, -1)
    .map((line) => JSON.stringify(JSON.parse(line)))
    .sort();
  return { resources: all.length, digest: createHash("sha256").update(all.join("\n")).digest("hex") };
}

async function checkPeers(options: LabOptions): Promise<void> {
  await using lab = await Lab.open(options);
  const ours = digestOf(await lab.content(() => lab.worker()));
  assert.equal(ours.resources, lab.resources);
  for (const peer of ["careful", "naive"] as const)
    assert.deepEqual(digestOf(await lab.content(() => lab.peer(peer))), ours, peer);
  const pages = (await lab.content(() => lab.peer("raw"))).toString();
  assert.equal(pages.split('"search":{"mode":"match"}').length - 1, lab.resources);
  say(`the peers write the same ${ours.resources} resources as the worker`);
}

const base = { count: 300, chains: 4 };

if (wants("scanner")) {
  const scanned = benchScan((line) => say(line), 7);
  results.scannerVsParseCompact = round(scanned.scannerVsParseCompact, 1);
  results.scannerVsParsePretty = round(scanned.scannerVsParsePretty, 1);
}

say(
  `\n4 chains, blocks of 8 MiB, ${pinned ? "source and sink on one core, the worker on the other" : "on all cores: this machine keeps no process on one"}`,
);
if (wants("peers")) await checkPeers({ ...base, types: mix(6000), shardResources: 1500 });

if (wants("plain")) {
  // In the first second of a run V8 learns what is worth compiling. Runs are long enough for that not to matter.
  await using lab = await Lab.open({ ...base, types: mix(2_400_000), shardResources: 100_000 });
  await using slowLab = await Lab.open({ ...base, types: mix(600_000) });
  say(`\nplain HTTP; 4 GB, of them 1 GB for those that parse\n${head}`);
  const bare = { digest: false };
  const { careful, naive, ...fast } = await interleave(
    {
      worker: () => lab.worker(),
      careful: () => slowLab.peer("careful"),
      raw: () => lab.peer("raw"),
      naive: () => slowLab.peer("naive"),
      workerBare: () => lab.worker(bare),
      rawBare: () => lab.peer("raw", bare),
      rawExchange: () => lab.peer("raw", { exchange: true }),
    },
    Math.min(rounds, 3),
  );
  const slow = {
    careful,
    naive,
    ...(await interleave(
      { carefulBare: () => slowLab.peer("careful", bare), naiveBare: () => slowLab.peer("naive", bare) },
      1,
    )),
  };
  printRuns("worker", fast.worker);
  printRuns("  without digest", fast.workerBare);
  printRuns("raw copy", fast.raw);
  printRuns("  without digest", fast.rawBare);
  printRuns("  by our own receiver", fast.rawExchange);
  printRuns("careful JSON.parse", slow.careful);
  printRuns("  without digest", slow.carefulBare);
  printRuns("naive", slow.naive);
  printRuns("  without digest", slow.naiveBare);
  const without = (theirs: Measured[]) => `; both without digests: ${ratioOf(fast.workerBare, theirs).toFixed(2)}`;
  const receiver = `; with our own receiver: ${ratioOf(fast.worker, fast.rawExchange).toFixed(2)}`;
  const copy = (theirs: Measured[]) => `; the raw copy itself: ${ratioOf(fast.raw, theirs).toFixed(2)}`;
  printRatio({ key: "workerVsRawCopy", least: 0.8, note: without(fast.rawBare) + receiver }, fast.worker, fast.raw);
  printRatio(
    { key: "workerVsCarefulParse", least: 5.5, note: without(slow.carefulBare) + copy(slow.careful) },
    fast.worker,
    slow.careful,
  );
  printRatio(
    { key: "workerVsNaive", least: 8, note: without(slow.naiveBare) + copy(slow.naive) },
    fast.worker,
    slow.naive,
  );
  results.workerVsCarefulParseBare = round(ratioOf(fast.workerBare, slow.carefulBare));
  results.workerVsNaiveBare = round(ratioOf(fast.workerBare, slow.naiveBare));
  results.rssMiB4Chains = round(Math.max(...fast.worker.map(({ rssMiB }) => rssMiB)), 0);
  say(`  rssMiB4Chains: ${results.rssMiB4Chains} (bar 256)`);
  results.resourcesPerSecond = round(median(fast.worker.map((run) => run.resources / run.seconds)), 0);
}

if (wants("tls")) {
  await using lab = await Lab.open({ ...base, types: mix(600_000), tls: true });
  say(`\nTLS on both sides\n${head}`);
  const { worker, raw } = await interleave({ worker: () => lab.worker(), raw: () => lab.peer("raw") }, 3);
  printRuns("worker", worker);
  printRuns("raw copy", raw);
  printRatio({ key: "workerVsRawCopyTls", least: 0.7 }, worker, raw);
}

if (wants("pretty")) {
  await using lab = await Lab.open({ ...base, types: mix(1_200_000), shardResources: 100_000, pretty: true });
  await using slowLab = await Lab.open({ ...base, types: mix(300_000), pretty: true });
  say(`\npretty pages; 3 GB, of them 0.7 GB for the one that parses\n${head}`);
  const { worker, careful } = await interleave(
    { worker: () => lab.worker(), careful: () => slowLab.peer("careful") },
    3,
  );
  printRuns("worker", worker);
  printRuns("careful JSON.parse", careful);
  printRatio({ key: "workerVsCarefulParsePretty", least: 5.5 }, worker, careful);
}

if (wants("gzip")) {
  await using lab = await Lab.open({ ...base, types: mix(300_000), gzip: true });
  say(`\ngzip of level 1\n${head}`);
  const { worker, raw } = await interleave({ worker: () => lab.worker(), raw: () => lab.peer("raw") }, 3);
  printRuns("worker", worker);
  printRuns("raw copy, gzip", raw);
  await using plain = await Lab.open({ ...base, types: mix(6000) });
  const rates = gzipRates(await plain.content(() => plain.worker()));
  const [output, digests, zlib] = [median(rates.output), median(rates.digests), median(rates.zlib)];
  say(`output, lines in memory ${output.toFixed(0).padStart(12)}`);
  say(`zlib and digests        ${digests.toFixed(0).padStart(12)}`);
  say(`zlib alone              ${zlib.toFixed(0).padStart(12)}`);
  const ofRounds = (theirs: number[]) => median(rates.output.map((ours, i) => ours / theirs[i]!));
  printRatio(
    { key: "gzipVsZlib", least: 0.85, note: "; from pages to blocks, where zlib compresses and both digests are made" },
    worker,
    raw,
  );
  results.gzipOutputVsZlib = round(ofRounds(rates.digests));
  say(
    `  gzipOutputVsZlib: ${results.gzipOutputVsZlib}, from lines in memory to blocks, with both digests; zlib without: ${ofRounds(rates.zlib).toFixed(2)}`,
  );
}

if (wants("compartment")) {
  const types = { Observation: 200_000, Encounter: 50_000 };
  await using system = await Lab.open({ ...base, types });
  await using patient = await Lab.open({ ...base, types, level: "Patient" });
  say(`\nlevel Patient against System, the same lines\n${head}`);
  const runs = await interleave({ system: () => system.worker(), patient: () => patient.worker() }, rounds);
  printRuns("System", runs.system);
  printRuns("Patient", runs.patient);
  printRatio({ key: "compartmentVsNone", least: 0.85 }, runs.patient, runs.system);
}

if (wants("chains")) {
  // Each chain has the same number of pages, so both runs take equally long, and the ratio says how much they do in
  // that time.
  const each = 16_000;
  const options = (chains: number) => ({
    count: 100,
    chains,
    types: { Observation: each * chains },
    shardResources: each,
    delay: 50,
  });
  say(`\npages that take 50 ms\n${head}`);
  const many: Measured[] = [];
  await using sixteen = await Lab.open(options(16));
  await using single = await Lab.open(options(1));
  for (let i = 0; i < 3; i++) many.push(await sixteen.worker());
  const one = await single.worker();
  printRuns("1 chain", [one]);
  printRuns("16 chains", many);
  results.chains16Vs1 = round(ratioOf(many, [one]));
  say(`  chains16Vs1: ${results.chains16Vs1.toFixed(2)} (bar 14)`);
}

if (values.long) {
  await using lab = await Lab.open({ ...base, types: mix(6_000_000), shardResources: 100_000 });
  say(`\n10 GB\n${head}`);
  const run = await lab.worker();
  printRuns("worker", [run]);
  results.rssMiB10GB = round(run.rssMiB, 0);
}

say(`\n${((performance.now() - started) / 1000).toFixed(0)} s`);
if (values.json) console.log(JSON.stringify(results));
