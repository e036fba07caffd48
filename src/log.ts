import { type Logger, pino } from "pino";

export type { Logger };

/** JSON lines on stdout. Nothing that names a patient, a secret or a URL query may be logged (DESIGN section 11); `redact` is only the last net. */
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
