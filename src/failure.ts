import type { Failure, FailureReason } from "./contracts.ts";

/** An error that says by its class who can do something about it: `terminal` = a person must act, `waiting` = the world
 *  must change first (the server is down, a quota is used up), `transient` = trying again may help at once. The message
 *  names the field or thing to mend. It holds no URL query, id, secret or resource content. */
export class FailureError extends Error implements Failure {
  override readonly name = "FailureError";
  readonly class: Failure["class"];
  readonly reason: FailureReason;
  constructor(kind: Failure["class"], reason: FailureReason, message: string, options?: ErrorOptions) {
    super(message, options);
    this.class = kind;
    this.reason = reason;
  }
}

export const terminal = (reason: FailureReason, message: string, cause?: unknown) =>
  new FailureError("terminal", reason, message, { cause });
export const waiting = (reason: FailureReason, message: string, cause?: unknown) =>
  new FailureError("waiting", reason, message, { cause });
export const transient = (reason: FailureReason, message: string, cause?: unknown) =>
  new FailureError("transient", reason, message, { cause });

/** Turns any thrown value into a Failure. An error that nobody foresaw becomes `transient` `Internal`, without its
 *  message, which may quote data. */
export function toFailure(error: unknown): Failure {
  if (error instanceof FailureError) return { class: error.class, reason: error.reason, message: error.message };
  const code = error instanceof Error ? ((error as NodeJS.ErrnoException).code ?? error.name) : typeof error;
  return {
    class: "transient",
    reason: "Internal",
    message: `unexpected error ${code}; the log line has its stack`,
  };
}

/** The part of a URL that may be shown: scheme, host and path. The query can hold a SAS, a filter or a patient id, and
 *  the user info is a secret. */
export function showURL(url: string | URL): string {
  try {
    const { protocol, host, pathname } = new URL(url);
    return `${protocol}//${host}${pathname}`;
  } catch {
    return "(not a URL)";
  }
}
