/** The peers that the worker is compared with: `node bench/peers.ts NAME`, with its job as JSON in BENCH_JOB. Each has
 *  the same duties: the same searches over the same number of chains, each resource once, lines in blocks of the same
 *  size, and (unless `digest` is false) a SHA-256 of what is stored, with gzip another one of its content. They are
 *  written as one would write them with care for the task, and keep no checkpoints.
 *
 *  raw      copies the pages as they are: undici.request, its data into a slab, PUT from there. It reads only the next
 *           link
 *  careful  receives and sends in the same way; JSON.parse of the page, JSON.stringify of each resource, a Set of ids
 *  naive    fetch().json(), lines gathered as strings, the SDK's stageBlock */
import { createHash } from "node:crypto";
import { gzipSync } from "node:zlib";
import { BlobServiceClient } from "@azure/storage-blob";
import { Agent, request } from "undici";
import { Connections } from "../src/fhir/connections.ts";
import { Collector, type Receiver } from "../src/fhir/http.ts";
import { socketOpener } from "../src/fhir/tls.ts";

export interface Job {
  /** first pages of all searches */
  searches: string[];
  chains: number;
  blockBytes: number;
  digest: boolean;
  gzip: boolean;
  /** receives by the worker's own HTTP client instead of undici.request */
  exchange: boolean;
  /** of the sink, for the SDK */
  connectionString: string;
  /** URL of the sink */
  sink: string;
}

interface Page {
  link?: { relation: string; url: string }[];
  entry?: { resource: { id: string } }[];
}

const job = JSON.parse(process.env.BENCH_JOB!) as Job;
const source = new Agent({ allowH2: false, connections: job.chains });
const own = new Connections(socketOpener(import.meta.dirname, new URL(job.searches[0]!)), { max: job.chains });
const up = new Agent({ allowH2: false });
const never = new AbortController().signal;
const largestPage = 4 << 20;
const member = 1 << 20;

/** The blocks of one chain: one is filled while the one before travels. */
class Blocks {
  #slab = Buffer.allocUnsafeSlow(job.blockBytes + largestPage);
  #spare = Buffer.allocUnsafeSlow(job.blockBytes + largestPage);
  used = 0;
  #sent: Promise<unknown> = Promise.resolve();
  #number = 0;
  readonly #hash = createHash("sha256");
  /** with gzip, of the content: the worker names both digests, too */
  readonly #contentHash = createHash("sha256");
  readonly #name: string;

  constructor(name: string) {
    this.#name = name;
  }
  get slab(): Buffer {
    return this.#slab;
  }
  async send(): Promise<void> {
    if (this.used === 0) return;
    await this.#sent;
    let block = this.#slab.subarray(0, this.used);
    if (job.gzip) {
      const members: Buffer[] = [];
      for (let at = 0; at < block.length; at += member) {
        const content = block.subarray(at, at + member);
        members.push(gzipSync(content, { level: 1 }));
        if (job.digest) this.#contentHash.update(content);
      }
      block = Buffer.concat(members);
    }
    if (job.digest) this.#hash.update(block);
    const id = Buffer.from(String(this.#number++).padStart(6, "0")).toString("base64");
    this.#sent = request(`${job.sink}/bench/${this.#name}?comp=block&blockid=${encodeURIComponent(id)}`, {
      method: "PUT",
      body: block,
      dispatcher: up,
    }).then((answer) => answer.body.dump());
    [this.#slab, this.#spare] = [this.#spare, this.#slab];
    this.used = 0;
  }
  async end(): Promise<string> {
    await this.send();
    await this.#sent;
    return this.#hash.digest("hex");
  }
}

const headers = { accept: "application/fhir+json" };
const get = async (link: string, into: Receiver) => {
  if (job.exchange) return void (await own.exchange({ url: new URL(link), method: "GET", headers }, into, [never]));
  const { body } = await request(link, { dispatcher: source, headers });
  into.start({});
  await new Promise((resolve, reject) =>
    body
      .on("data", (chunk: Buffer) => into.write(chunk))
      .on("end", resolve)
      .on("error", reject),
  );
};

async function raw(searches: Iterator<string>, chain: number): Promise<void> {
  const blocks = new Blocks(`raw-${chain}`);
  const into: Receiver = {
    start: () => {},
    write: (chunk) => {
      chunk.copy(blocks.slab, blocks.used);
      blocks.used += chunk.length;
    },
  };
  for (let search = searches.next(); !search.done; search = searches.next())
    for (let link: string | undefined = search.value; link; ) {
      const from = blocks.used;
      await get(link, into);
      link = /"relation":\s*"next",\s*"url":\s*"([^"]+)"/.exec(
        blocks.slab.toString("latin1", from, Math.min(blocks.used, from + 2048)),
      )?.[1];
      if (blocks.used >= job.blockBytes) await blocks.send();
    }
  await blocks.end();
}

const next = ({ link }: Page) => link?.find(({ relation }) => relation === "next")?.url;

async function careful(searches: Iterator<string>, chain: number): Promise<void> {
  const blocks = new Blocks(`careful-${chain}`);
  const body = new Collector(largestPage, () => new Error("too long"));
  for (let search = searches.next(); !search.done; search = searches.next()) {
    const seen = new Set<string>();
    for (let link: string | undefined = search.value; link; ) {
      await get(link, body);
      const page = JSON.parse(body.bytes.toString()) as Page;
      for (const { resource } of page.entry ?? []) {
        if (seen.has(resource.id)) continue;
        seen.add(resource.id);
        blocks.used += blocks.slab.write(`${JSON.stringify(resource)}\n`, blocks.used);
        if (blocks.used >= job.blockBytes) await blocks.send();
      }
      link = next(page);
    }
  }
  await blocks.end();
}

const sdk = BlobServiceClient.fromConnectionString(job.connectionString).getContainerClient("bench");

async function naive(searches: Iterator<string>, chain: number): Promise<void> {
  const blob = sdk.getBlockBlobClient(`naive-${chain}`);
  const hash = createHash("sha256");
  let [lines, number] = ["", 0];
  const send = async () => {
    const block = Buffer.from(lines);
    lines = "";
    if (block.length === 0) return;
    if (job.digest) hash.update(block);
    await blob.stageBlock(Buffer.from(String(number++).padStart(6, "0")).toString("base64"), block, block.length);
  };
  for (let search = searches.next(); !search.done; search = searches.next()) {
    const seen = new Set<string>();
    for (let link: string | undefined = search.value; link; ) {
      const page = (await (await fetch(link, { headers })).json()) as Page;
      for (const { resource } of page.entry ?? []) {
        if (seen.has(resource.id)) continue;
        seen.add(resource.id);
        lines += `${JSON.stringify(resource)}\n`;
      }
      if (lines.length >= job.blockBytes) await send();
      link = next(page);
    }
  }
  await send();
}

const peers = { raw, careful, naive };
const peer = peers[process.argv[2] as keyof typeof peers];
const searches = job.searches.values();
await Promise.all(Array.from({ length: job.chains }, (_, chain) => peer(searches, chain)));
own.close();
await Promise.all([source.close(), up.close()]);
