import { parseArgs } from "node:util";
import pkg from "../package.json" with { type: "json" };
import { type Command, exitCode } from "./contracts.ts";
import { FailureError } from "./failure.ts";

const usage = `fhir-export ${pkg.version}: exports FHIR R4 data in bulk from any FHIR server that can search

fhir-export operator [...]     watch FhirExports in a cluster and run them as Jobs
fhir-export shim [...]         serve FHIR $export over HTTP on top of a cluster's FhirExports
fhir-export worker COMMAND     one step of an export: plan, export, seal, purge or verify (started by the operator)
fhir-export crds COMMAND       print or apply the CustomResourceDefinitions
fhir-export standalone [...]   all of it on this machine, without a cluster

fhir-export SUBCOMMAND --help says more. --version prints the version.
`;

const workerCommands: readonly Command[] = ["plan", "export", "seal", "purge", "verify"];

/** Runs one subcommand and only that: a worker never loads the Kubernetes client, and the operator no storage SDK.
 *  @returns the exit code */
async function main(args: string[], signal: AbortSignal): Promise<number> {
  const [subcommand, ...rest] = args;
  switch (subcommand) {
    case "operator":
      await (await import("./kube/operator.ts")).runOperator(rest, signal);
      return exitCode.done;
    case "shim":
      await (await import("./kube/shim.ts")).runShim(rest, signal);
      return exitCode.done;
    case "crds":
      await (await import("./kube/crds.ts")).runCRDs(rest, signal);
      return exitCode.done;
    case "standalone":
      await (await import("./standalone/main.ts")).runStandalone(rest, signal);
      return exitCode.done;
    case "worker": {
      const command = workerCommands.find((known) => known === rest[0]);
      if (!command || rest.length > 1)
        return refuseArguments(
          `worker takes exactly one command, one of ${workerCommands.join(", ")}; got ${rest.length ? `"${rest.join(" ")}"` : "none"}`,
        );
      return (await import("./worker/main.ts")).runWorker(command, process.env, signal);
    }
    default:
      return runWithoutSubcommand(args);
  }
}

/** Runs the program's own options, for when the first argument is no subcommand. */
function runWithoutSubcommand(args: string[]): number {
  const options = { help: { type: "boolean", short: "h" }, version: { type: "boolean", short: "v" } } as const;
  const { values, positionals } = parseArgs({ args, options, strict: false, allowPositionals: true });
  if (positionals.length) return refuseArguments(`unknown command "${positionals[0]}"`);
  const unknown = Object.keys(values).find((name) => !(name in options));
  if (unknown) return refuseArguments(`unknown option "${unknown.length > 1 ? "--" : "-"}${unknown}"`);
  if (values.version) console.log(pkg.version);
  else if (values.help) console.log(usage);
  else return refuseArguments("a subcommand is missing");
  return exitCode.done;
}

/** Prints what ended the program: a mistake of the caller as one line, anything else with its stack.
 *  @returns the exit code */
function printFailure(error: unknown): number {
  if (error instanceof FailureError || (error as NodeJS.ErrnoException)?.code?.startsWith("ERR_PARSE_ARGS")) {
    console.error(`fhir-export: ${(error as Error).message}`);
    return error instanceof FailureError && error.class !== "terminal" ? exitCode.waiting : exitCode.terminal;
  }
  console.error(error);
  return 1;
}

function refuseArguments(message: string): number {
  console.error(`fhir-export: ${message}\n\n${usage}`);
  return exitCode.terminal;
}

const shutdown = new AbortController();
for (const name of ["SIGTERM", "SIGINT"] as const)
  process.on(name, () => {
    // a second signal means that somebody waits for the end: exit at once
    if (shutdown.signal.aborted) process.exit(exitCode.stopped);
    shutdown.abort(new Error(name));
  });
// A standalone starts its workers as child processes. When it dies, its workers must end too, because a restarted
// standalone waits until they are gone.
if (process.send && process.argv[2] === "worker") process.on("disconnect", () => process.exit(exitCode.stopped));
try {
  process.exitCode = await main(process.argv.slice(2), shutdown.signal);
} catch (error) {
  process.exitCode = printFailure(error);
}
process.channel?.unref();
// an idle socket or whatever else keeps the event loop alive must not delay the exit
setTimeout(() => process.exit(), 2000).unref();
