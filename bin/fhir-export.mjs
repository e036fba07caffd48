#!/usr/bin/env node
// Plain JavaScript on purpose: an older Node cannot parse src/main.ts, and its error would not say that Node is too
// old.
const [major] = process.versions.node.split(".").map(Number);
if (major < 24) {
  console.error(`fhir-export needs Node.js 24 or newer; this is ${process.version}.`);
  process.exit(64);
}
await import("../src/main.ts");
