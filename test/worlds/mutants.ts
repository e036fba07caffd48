/** A check of the worker, and how to take it out: in `file`, `from` becomes `to`. Worlds must find each within 10,000
 *  (mutations.ts). */
export interface Mutant {
  name: string;
  file: string;
  from: string;
  to: string;
}

export const mutants: Mutant[] = [
  {
    name: "a next link may be followed twice",
    file: "src/fhir/links.ts",
    from: "if (visited.has(link))",
    to: "if (visited.size < 0)",
  },
  {
    name: "a resource that was shown before is written again",
    file: "src/sink/writer.ts",
    from: "if (!this.#prints.add(words, at)) return false;",
    to: "this.#prints.add(words, at);",
  },
  {
    name: "resources of another type are not told",
    file: "src/worker/read/verdict.ts",
    from: "const isType = /^[A-Z][A-Za-z]{1,63}$/.test(found);",
    to: 'if (found !== "") return "skip";\n  const isType = found !== type;',
  },
  {
    name: "entries that are no data become lines",
    file: "src/worker/read/verdict.ts",
    from: 'if (mode === "outcome" || mode === "include") return "skip";',
    to: "",
  },
  {
    name: "what is newer than transactionTime is exported",
    file: "src/worker/read/verdict.ts",
    from: 'if (!isEarlier(lastUpdated, till)) return isEarlier(lastUpdated, end) ? beside : "outside";',
    to: "",
  },
  {
    name: "since is left to the source",
    file: "src/worker/read/verdict.ts",
    from: "if (since !== undefined && isEarlier(lastUpdated, since)) return beside;",
    to: "",
  },
  {
    name: "all are in the compartment",
    file: "src/worker/read/verdict.ts",
    from: "return verdicts[judge(table, row)];",
    to: 'return row > 3 ? "line" : verdicts[judge(table, row)];',
  },
  {
    name: "Provenance is exported only with its patients",
    file: "src/worker/read/provenance.ts",
    from: 'else if (isExported(target.type, target.id)) return "in";',
    to: "",
  },
  {
    name: "what was passed over counts as written",
    file: "src/sink/writer.ts",
    from: "this.#prints.pass();",
    to: "",
  },
  {
    name: "other Groups of a member are exported",
    file: "src/worker/read/verdict.ts",
    from: 'if (groups && !groups.has(table.id(row))) return "pass";',
    to: "",
  },
  {
    name: "a shard is not read again where the source counts more",
    file: "src/worker/read/next-reading.ts",
    from: 'if (missing) return missing.least > 0 ? "onward" : missing.most > 0 ? "unclear" : "none";',
    to: 'if (missing) return "none";',
  },
  {
    name: "a shard with errors is not read again",
    file: "src/worker/read/next-reading.ts",
    from: 'if (errors > 0) return "anew";\n  if (unclaimed)',
    to: "if (unclaimed)",
  },
  {
    name: "a shard with foreign rows is not read again",
    file: "src/worker/read/next-reading.ts",
    from: 'if (unclaimed) return "onward";',
    to: "",
  },
  {
    name: "a window that stays open is no doubt",
    file: "src/worker/seal/close.ts",
    from: "const doubts = [...openDoubts(open), ",
    to: "const doubts = [...openDoubts(open.slice(0, 0)), ",
  },
  {
    name: "the tail is not written",
    file: "src/worker/seal/tail.ts",
    from: "const written = await writeVersions(closing, tail, missing);",
    to: "const written = await writeVersions(closing, tail, new Map(missing.size < 0 ? missing : []));",
  },
  {
    name: "what was touched and is newer is no doubt",
    file: "src/worker/seal/doubts.ts",
    from: "if (newer > 0)",
    to: "if (newer < 0)",
  },
  {
    name: "what cannot be obtained is no doubt",
    file: "src/worker/seal/doubts.ts",
    from: "if (lost > 0)",
    to: "if (lost < 0)",
  },
  {
    name: "what went before it was read is no doubt",
    file: "src/worker/seal/doubts.ts",
    from: "if (gone > 0)",
    to: "if (gone < 0)",
  },
  {
    name: "that deletions cannot be known is no doubt",
    file: "src/worker/seal/doubts.ts",
    from: "if (goneUnknown)",
    to: "if (gone < 0)",
  },
  {
    name: "what comes twice is no doubt",
    file: "src/worker/seal/doubts.ts",
    from: "if (twice > 0)",
    to: "if (twice < 0)",
  },
  {
    name: "what is older is no doubt",
    file: "src/worker/seal/doubts.ts",
    from: "if (older > 0)",
    to: "if (older < 0)",
  },
  {
    name: "answers that could not be exported are no doubt",
    file: "src/worker/seal/seal.ts",
    from: "if (failed > 0)",
    to: "if (failed < 0)",
  },
  {
    name: "the source's clock is not waited for",
    file: "src/fhir/reads.ts",
    from: "const first = await dateBy(link);",
    to: "const first = await dateBy(link);\n      if (first > 0) return first + 1000;",
  },
  {
    name: "a history that is not newest first is believed",
    file: "src/fhir/history.ts",
    from: "if (at > this.#before) return false;",
    to: "",
  },
  {
    name: "a search result is taken for a history",
    file: "src/fhir/history.ts",
    from: 'bundle.type !== "history"',
    to: 'bundle.type === "x"',
  },
  {
    name: "the rest of a deleted resource is its version",
    file: "src/fhir/history.ts",
    from: 'if (!resource || request?.method === "DELETE")',
    to: "if (!resource)",
  },
  {
    name: "a history that ends too early is whole",
    file: "src/fhir/history.ts",
    from: 'return end === "whole" && oldest && isFirst(oldest) ? "none" : undefined;',
    to: 'return end === "whole" && oldest ? "none" : undefined;',
  },
  {
    name: "that the whole is the sum of its parts is not checked",
    file: "src/worker/plan/windows.ts",
    from: "if (below !== undefined && above !== undefined && below + above === all) return true;",
    to: "if (below !== undefined) return true;",
  },
  {
    name: "an order is believed",
    file: "src/worker/plan/probes.ts",
    from: "return readings[0] === readings[1];",
    to: "return readings.length === 2;",
  },
  {
    name: "windows are believed",
    file: "src/worker/plan/shards.ts",
    from: "if (!probe.windows) return [shardWithoutWindow(cut)];",
    to: "",
  },
  {
    name: "bounds are not widened to seconds",
    file: "src/worker/plan/shards.ts",
    from: "const step = seconds ? 1000 : 1;",
    to: "const step = seconds ? 1 : 1;",
  },
  {
    name: "a checkpoint is replaced whoever wrote it",
    file: "src/sink/claim.ts",
    from: "if (tag === undefined) throw await this.#loseClaim(open);\n    this.#tag = tag;",
    to: 'if (tag !== undefined) this.#tag = tag;\n    else if (open.includes("")) throw await this.#loseClaim(open);',
  },
  {
    name: "what another writer committed is taken for one's own",
    file: "src/sink/file.ts",
    from: 'if ((await upload.commit(part.blocks!)) === "gone")',
    to: 'if ((await upload.commit(part.blocks!)) === ("never" as string))',
  },
  {
    name: "a checkpoint does not name the segments",
    file: "src/sink/writer.ts",
    from: "await this.#storePrints();\n    const checkpoint = this.#checkpoint();",
    to: "const checkpoint = this.#checkpoint();",
  },
  {
    name: "blocks that are gone are not missed",
    file: "src/sink/output.ts",
    from: "|| !(await this.#file.holds())) return false;",
    to: "|| (await this.#file.holds()) === undefined) return false;",
  },
  {
    name: "the tail of a file is not in the checkpoint",
    file: "src/sink/output.ts",
    from: "this.#tail.push([path, bytes.length]);",
    to: "",
  },
  {
    name: "a planner that wakes up late leaves its plan",
    file: "src/worker/plan/draft.ts",
    from: "await this.#store.remove(path);\n    throw transient",
    to: "throw transient",
  },
  {
    name: "a purge does not fence the writers",
    file: "src/worker/purge.ts",
    from: "const wereOpen = await eachParallel(shards, ",
    to: "const wereOpen = await eachParallel(shards.slice(0, 0), ",
  },
  {
    name: "a writer does not look whether the export is over",
    file: "src/sink/claim.ts",
    from: "if (plan !== undefined && manifest === undefined) return;",
    to: "if (plan !== undefined || manifest !== 0.5) return;",
  },
  {
    name: "elements are left to the source",
    file: "src/worker/read/verdict.ts",
    from: "...(wanted && { cut: (resource: Buffer) => cutResource(resource, wanted) }),",
    to: "",
  },
  {
    name: "inactive members count",
    file: "src/worker/plan/group.ts",
    from: "if (inactive !== true && periodHolds(period, at)) addMember(",
    to: "if (periodHolds(period, at)) addMember(",
  },
  {
    name: "nested Groups do not count",
    file: "src/worker/plan/group.ts",
    from: 'else if (referred.type === "Group") found.groups.add(referred.id);',
    to: "",
  },
  {
    name: "deletions that came back are listed",
    file: "src/worker/seal/deletions.ts",
    from: "if (!alive.has(id)) deleted.set",
    to: "deleted.set",
  },
  {
    name: "deletions since transactionTime are listed",
    file: "src/worker/seal/deletions.ts",
    from: "if (at >= end) deleted.delete(id);\n    else if (deletion)",
    to: "if (deletion)",
  },
  {
    name: "output that the manifest does not name stays",
    file: "src/worker/seal/seal.ts",
    from: "isOutput(path) && !named.has(path)) unnamed.push(path);",
    to: "isOutput(path) && !isOutput(path)) unnamed.push(path);",
  },
  {
    name: "a shard that begins again uses the names of its files again",
    file: "src/sink/output.ts",
    from: "this.#named = this.#sequence;\n    this.#buffer",
    to: "this.#named = this.#sequence = 0;\n    this.#buffer",
  },
  {
    name: "errors of the page that is read again are in the checkpoint",
    file: "src/sink/writer.ts",
    from: "errors: to.errors - from.errors,",
    to: "errors: this.#errors - from.errors + 0 * to.errors,",
  },
];
