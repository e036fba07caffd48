import { FailureError, terminal, transient, waiting } from "../failure.ts";

/** The body of an error answer of the API server: kind Status of meta/v1. */
export interface Status {
  reason?: string;
  message?: string;
  code?: number;
  details?: { retryAfterSeconds?: number; causes?: { reason?: string; field?: string; message?: string }[] };
}

interface KubeErrorOptions extends ErrorOptions {
  retryAfterSeconds?: number | undefined;
}

/** The API server refused a call, or could not be reached (status 0). The message may be shown and logged: it has the
 *  method, the path without its query, status, reason and the names of fields. The server's own text may quote an
 *  object's values (patients, filters). It is in `detail` and `causes`, which are getters of private fields, so that a
 *  logger does not print them. */
export class KubeError extends Error {
  override readonly name = "KubeError";
  /** HTTP status; 0 = no answer */
  readonly status: number;
  /** Kubernetes' word for the cause, e.g. `AlreadyExists`; without an answer `Timeout` or `Unreachable` */
  readonly reason: string;
  readonly retryAfterSeconds: number | undefined;
  readonly #status: Status;

  /** @param call method and path, see nameOf
   *  @param said the server's answer; without one its reason and message are ours */
  constructor(call: string, status: number, said: Status, { retryAfterSeconds, cause }: KubeErrorOptions = {}) {
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
  /** the server's own text; it may quote values */
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
/** The API server no longer has the version that a watch or a list page continues from. All must be listed again. */
export const isGone = (error: unknown) => isKube(error, 410);
export const isConflict = (error: unknown) => isKube(error, 409, "Conflict");
export const isAlreadyExists = (error: unknown) => isKube(error, 409, "AlreadyExists");

/** What an error of the API server means for the work at hand. Nothing else decides this. */
export function toKubeFailure(error: unknown): FailureError {
  if (error instanceof FailureError) return error;
  if (!(error instanceof KubeError))
    return transient("Internal", `unexpected ${error instanceof Error ? error.name : typeof error}`, error);
  const { status, reason, message } = error;
  // The cause of a 401 or 403 is credentials, RBAC, a quota, an admission policy or a terminating namespace. Each is
  // mended outside the operator.
  if (status === 401 || status === 403) return waiting("Internal", message, error);
  // TooManyRequests, Timeout (408, 504) and ServerTimeout come and go. 404, 409 and 410 say that our copy of the object
  // is old.
  if ([0, 404, 408, 409, 410, 429].includes(status) || status >= 500) return transient("Internal", message, error);
  return terminal("Internal", reason === "Invalid" ? message : `${message}: the API server refuses the request`, error);
}

/** A call as it may be shown: without the query, which holds selectors. */
export const nameOf = (method: string, path: string) => `${method} ${path.replace(/\?.*/, "")}`;

/** Makes a KubeError of an error that came instead of an answer. After an abort by the caller's own signal the error is
 *  returned as it is. */
export function unreachable(call: string, error: unknown, signal: AbortSignal | undefined): unknown {
  if (error instanceof KubeError || error instanceof FailureError || signal?.aborted) return error;
  const { name, code } = error as NodeJS.ErrnoException;
  const reason = name === "TimeoutError" ? "Timeout" : "Unreachable";
  return new KubeError(call, 0, { reason, message: typeof code === "string" ? code : name }, { cause: error });
}

/** The Status in an error answer. An answer that is not JSON (of a proxy, say) becomes its message, up to 500
 *  characters. */
export function parseStatus(text: string): Status {
  try {
    const parsed: Status = JSON.parse(text);
    return typeof parsed === "object" && parsed !== null ? parsed : {};
  } catch {
    return { message: text.slice(0, 500) };
  }
}
