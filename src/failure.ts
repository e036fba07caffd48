import type { Failure, FailureReason } from "./contracts.ts";

/** An error that carries what to do about it (DESIGN section 5): `terminal` = a person must act, `waiting` = the world must change first,
 *  `transient` = try again. The message names the field or thing to mend; it holds no URL query, id, secret or resource content. */
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

/** Any thrown value as a Failure; what we did not foresee is `transient` `Internal`, without its message (it may quote data). */
export function toFailure(error: unknown): Failure {
  if (error instanceof FailureError) return { class: error.class, reason: error.reason, message: error.message };
  const code = error instanceof Error ? ((error as NodeJS.ErrnoException).code ?? error.name) : typeof error;
  return { class: "transient", reason: "Internal", message: `unexpected ${code}; the worker's log has the stack` };
}

/** A URL as it may be shown: scheme, host and path. The query can hold a SAS, a filter or a patient id; user info is a secret. */
export function showURL(url: string | URL): string {
  try {
    const { protocol, host, pathname } = new URL(url);
    return `${protocol}//${host}${pathname}`;
  } catch {
    return "(not a URL)";
  }
}
