/** `npm run dev:node`: a node to try things on, until Ctrl-C. */
import { once } from "node:events";
import { ensureImage, imageName, saveImage } from "../image.ts";
import { nodeMissing } from "./missing.ts";
import { startNode } from "./node.ts";
import { buildNodePrograms } from "./programs.ts";

const missing = nodeMissing();
if (missing) throw new Error(missing);
const programs = await buildNodePrograms(console.log);
const node = await startNode(programs, { patienceMs: 200_000 });
const stop = Promise.race([once(process, "SIGINT"), once(process, "SIGTERM")]);
// The node's processes do not keep this process alive, so a timer does.
const stay = setInterval(() => {}, 3_600_000);
console.log(`a node is Ready; logs are in ${node.logs}`);
if (!process.argv.includes("--bare")) {
  ensureImage();
  saveImage(imageName, `${node.files}/image.tar`);
  await node.importImage(`${node.files}/image.tar`);
  console.log(`it has the image ${imageName}`);
}
console.log(`programs run on it by: ${node.shell.join(" ")}`);
await stop;
clearInterval(stay);
await node.stop();
