// What `helm test` runs: a small export over HTTP, from the kick-off to the digest of each file.
import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

// Run as a file, or by `node -e`, which has one argument less before these.
const [base, types, seconds] = process.argv.slice(-3);
const deadline = Date.now() + Number(seconds) * 1000;
const fail = (text) => {
  console.error(text);
  process.exit(1);
};
const ask = async (url, init) => {
  for (;;) {
    try {
      const answer = await fetch(url, init);
      if (answer.status !== 503 && answer.status !== 429) return answer;
      await answer.text();
    } catch (error) {
      if (Date.now() > deadline) fail(`${url.split("?")[0]}: ${error.cause?.code ?? error.message}`);
    }
    if (Date.now() > deadline) fail(`${url.split("?")[0]} does not answer`);
    await sleep(1000);
  }
};

const capabilities = await ask(`${base}/metadata`);
if (!capabilities.ok) fail(`GET /metadata: ${capabilities.status}`);
console.log(`GET /metadata: ${(await capabilities.json()).resourceType}`);
const started = await ask(`${base}/$export?_type=${types}`, { headers: { accept: "application/fhir+json", prefer: "respond-async" } });
if (started.status !== 202) fail(`kick-off: ${started.status} ${await started.text()}`);
const path = new URL(started.headers.get("content-location")).pathname.replace(/^.*(?=\/_operations\/)/, "");
console.log(`kick-off: 202, ${path}`);
let manifest;
for (let said; !manifest; await sleep(1000)) {
  const answer = await ask(`${base}${path}`);
  if (answer.status === 200) manifest = await answer.json();
  else if (answer.status !== 202) fail(`status: ${answer.status} ${await answer.text()}`);
  else if (said !== answer.headers.get("x-progress")) console.log((said = answer.headers.get("x-progress")));
  if (Date.now() > deadline) fail("the export did not end in time");
}
for (const { url, type, count, sha256 } of manifest.output) {
  const file = await ask(`${base}${path}${url.slice(url.indexOf(path) + path.length)}`, { headers: { "accept-encoding": "identity" } });
  const bytes = Buffer.from(await file.arrayBuffer());
  const found = createHash("sha256").update(bytes).digest("hex");
  if (found !== sha256) fail(`${type}: SHA-256 ${found} instead of ${sha256}`);
  console.log(`${type}: ${count} resources, ${bytes.length} bytes, SHA-256 ok`);
}
const ended = await ask(`${base}${path}`, { method: "DELETE" });
if (ended.status !== 202) fail(`DELETE: ${ended.status}`);
console.log("deleted; the export works");
