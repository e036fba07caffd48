import { FailureError, terminal, transient, waiting } from "../failure.ts";

/** What the API server answers with an error, meta/v1. */
export interface Status {
  reason?: string;
  message?: string;
  code?: number;
  details?: { retryAfterSeconds?: number; causes?: { reason?: string; field?: string; message?: string }[] };
}

/** A refusal of the API server, or that it could not be reached (status 0). The message can be shown and logged: method, path without
 *  query, status and reason. What the server said may quote an object's values (patients, filters) and is in `detail` and `causes`, which a
 *  logger does not see. */
export class KubeError extends Error {
  override readonly name = "KubeError";
  /** HTTP status; 0 when there was no answer */
  readonly status: number;
  /** Kubernetes' word, e.g. `AlreadyExists`; `Timeout` or `Unreachable` when there was no answer */
  readonly reason: string;
  readonly retryAfterSeconds: number | undefined;
  readonly #status: Status;

  constructor(call: string, status: number, said: Status, retryAfterSeconds?: number, cause?: unknown) {
    const reason = said.reason || (status === 0 ? "Unreachable" : `HTTP${status}`);
    const fields = [...new Set((said.details?.causes ?? []).flatMap(({ field }) => (field ? [field] : [])))].slice(
      0,
      5,
    );
    super(`${call}: ${status || "no answer"} ${reason}${fields.length ? ` (${fields.join(", ")})` : ""}`, { cause });
    this.status = status;
    this.reason = reason;
    this.retryAfterSeconds = retryAfterSeconds ?? said.details?.retryAfterSeconds;
    this.#status = said;
  }
  /** the server's own words */
  get detail(): string {
    return this.#status.message ?? this.message;
  }
  get causes(): { reason?: string; field?: string; message?: string }[] {
    return this.#status.details?.causes ?? [];
  }
}

const isKube = (error: unknown, status: number, reason?: string): error is KubeError =>
  error instanceof KubeError && error.status === status && (reason === undefined || error.reason === reason);
export const isNotFound = (error: unknown) => isKube(error, 404);
/** the version that a watch or a list page starts from is gone: list again */
export const isGone = (error: unknown) => isKube(error, 410);
export const isConflict = (error: unknown) => isKube(error, 409, "Conflict");
export const isAlreadyExists = (error: unknown) => isKube(error, 409, "AlreadyExists");

/** What an error of the API means for the work at hand (the one place that decides). */
export function toKubeFailure(error: unknown): FailureError {
  if (error instanceof FailureError) return error;
  if (!(error instanceof KubeError))
    return transient("Internal", `unexpected ${error instanceof Error ? error.name : typeof error}`, error);
  const { status, reason, message } = error;
  // 401 and 403: credentials, RBAC, a quota, an admission policy, a terminating namespace; each is mended outside of us
  if (status === 401 || status === 403) return waiting("Internal", message, error);
  // TooManyRequests, Timeout (408, 504) and ServerTimeout come and go; 404, 409 and 410 say that our picture of the world is old
  if ([0, 404, 408, 409, 410, 429].includes(status) || status >= 500) return transient("Internal", message, error);
  return terminal("Internal", reason === "Invalid" ? message : `${message}: the API server does not take this`, error);
}

/** A call as it may be shown; selectors are in the query. */
export const nameOf = (method: string, path: string) => `${method} ${path.replace(/\?.*/, "")}`;

/** An error without an answer as a KubeError; an abort by the caller's own signal stays what it is. */
export function unreachable(call: string, error: unknown, signal: AbortSignal | undefined): unknown {
  if (error instanceof KubeError || error instanceof FailureError || signal?.aborted) return error;
  const { name, code } = error as NodeJS.ErrnoException;
  return new KubeError(
    call,
    0,
    { reason: name === "TimeoutError" ? "Timeout" : "Unreachable", message: typeof code === "string" ? code : name },
    undefined,
    error,
  );
}

export function parseStatus(text: string): Status {
  try {
    const parsed: Status = JSON.parse(text);
    return typeof parsed === "object" && parsed !== null ? parsed : {};
  } catch {
    return { message: text.slice(0, 500) };
  }
}
