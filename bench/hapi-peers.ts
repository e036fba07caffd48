/** Other ways to get all resources out of a HAPI FHIR server. Each tells how many it got. */
import assert from "node:assert/strict";
import { createWriteStream, type WriteStream } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

/** Reads one type after the other by following its next links, as a script would.
 *  @param chains how many types at a time
 *  @param types the largest first */
export async function followPages(
  baseURL: string,
  types: readonly string[],
  { count, chains, file }: { count: number; chains: number; file: string },
): Promise<number> {
  const out = createWriteStream(file);
  const queue = types.values();
  let resources = 0;
  const chain = async () => {
    for (const type of queue) {
      const read = await readType(baseURL, type, count, out);
      resources += read;
    }
  };
  await Promise.all(Array.from({ length: chains }, chain));
  await new Promise((resolve) => out.end(resolve));
  return resources;
}

/** Without `no-cache` HAPI would answer with the search of the round before. */
async function readType(baseURL: string, type: string, count: number, out: WriteStream): Promise<number> {
  let resources = 0;
  for (let link: string | undefined = `${baseURL}/${type}?_count=${count}`; link; ) {
    const page = (await (await fetch(link, { headers: { "cache-control": "no-cache" } })).json()) as {
      link: { relation: string; url: string }[];
      entry?: { resource: unknown }[];
    };
    for (const { resource } of page.entry ?? []) {
      out.write(`${JSON.stringify(resource)}\n`);
      resources++;
    }
    link = page.link.find(({ relation }) => relation === "next")?.url;
  }
  return resources;
}

/** HAPI's own $export: kick-off, polls, and download of all files. */
export async function itsOwnExport(baseURL: string, types: readonly string[]): Promise<number> {
  const headers = { accept: "application/fhir+json", prefer: "respond-async" };
  const kickOff = await fetch(`${baseURL}/$export?_outputFormat=application%2Ffhir%2Bndjson&_type=${types.join(",")}`, {
    headers,
  });
  assert.equal(kickOff.status, 202, await kickOff.text());
  const status = kickOff.headers.get("content-location")!;
  for (;;) {
    const answer = await fetch(status, { headers: { accept: "application/json" } });
    if (answer.status !== 202) {
      assert.equal(answer.status, 200);
      return download(((await answer.json()) as { output: { url: string }[] }).output);
    }
    await sleep(1000);
  }
}

async function download(output: readonly { url: string }[]): Promise<number> {
  let resources = 0;
  for (const { url } of output) {
    const file = await fetch(url, { headers: { accept: "application/fhir+json" } });
    const body = Buffer.from(await file.arrayBuffer());
    // the file is a Binary whose data is the NDJSON, or it is the NDJSON itself
    const lines =
      body[0] === 0x7b && body.includes('"resourceType":"Binary"')
        ? Buffer.from((JSON.parse(body.toString()) as { data: string }).data, "base64")
        : body;
    resources += lines
      .toString()
      .split("\n")
      .filter((line) => line !== "").length;
  }
  return resources;
}
