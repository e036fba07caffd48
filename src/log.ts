import { type Logger, pino } from "pino";

export type { Logger };

/** The frames of an error's stack, without its message, which may quote a URL or an answer. undefined where there is no
 *  stack. */
export const stackFrames = (error: unknown): string[] | undefined =>
  error instanceof Error ? error.stack?.split("\n").filter((line) => /^\s+at /.test(line)) : undefined;

/** Makes a logger that writes JSON lines to stdout. Nothing that names a patient, a secret or a URL query may be logged
 *  (docs/security.md); `redact` is only the last net.
 *  @param bindings members of every line */
export function makeLogger(
  bindings: Record<string, unknown>,
  level = process.env.FHIR_EXPORT_LOG_LEVEL ?? "info",
): Logger {
  return pino({
    level,
    base: bindings,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
    redact: { paths: ["authorization", "*.authorization", "headers", "*.headers"], censor: "(removed)" },
  });
}
