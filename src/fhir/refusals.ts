import { type FailureError, terminal, waiting } from "../failure.ts";
import type { Head } from "./http.ts";

/** What a request is for. It decides what an answer other than 2xx means.
 *  - `statement`: the CapabilityStatement.
 *  - `probe`: something that the export can do without, or in another way: a count, an order, a window, a history.
 *  - `search`: the first page of a search whose resources are wanted.
 *  - `next`: a page behind a next link.
 *  - `resource`: a single resource. */
export type Purpose = "statement" | "probe" | "search" | "next" | "resource";

/** What an answer means.
 *  - `answer`: it is what was asked for.
 *  - `no`: the source does not do this, or has forgotten it. The caller is told, and does without it.
 *  - `busy`: the request is sent again. It says nothing about the request.
 *  - `failing`: the request is sent again. If it stays so while other requests are answered, it is a no.
 *  - `unauthorized`: a person must mend the FhirSource. */
export type Meaning = "answer" | "no" | "busy" | "failing" | "unauthorized";

/** Groups of answers that mean the same. */
type AnswerKind = "good" | "elsewhere" | "unsigned" | "denied" | "missing" | "busy" | "failing" | "refused";

/** An answer, as far as its meaning depends on it. */
export interface AnsweredStatus {
  status: number;
  /** its body is HTML or XML, so that a gateway has answered and not the FHIR server, or no UTF-8 */
  isMarkup: boolean;
}

/** What has been answered well before. */
export interface WorkedBefore {
  /** a request of the same kind: the same path and the same parameters, with whatever values */
  same: boolean;
  /** any request that needs a sign-in */
  any: boolean;
}

function kindOf({ status, isMarkup }: AnsweredStatus): AnswerKind {
  if (status < 300) return isMarkup ? "elsewhere" : "good";
  // A proxy answers so while the server behind it is away. What the FHIR server itself refuses has a JSON body, or
  // none.
  if (status < 400 || (isMarkup && (status === 403 || status === 404))) return "elsewhere";
  if (status === 401) return "unsigned";
  if (status === 403) return "denied";
  if (status === 404 || status === 410) return "missing";
  if (status === 408 || status === 425 || status === 429) return "busy";
  return status < 500 || status === 501 || status === 505 ? "refused" : "failing";
}

/** The table of refusals: what each kind of answer means where nothing has worked before. Servers differ in the status
 *  by which they say that they do not know a parameter, an order, a count or a history: 400, 403, 404, 405, 410, 422,
 *  500 and 501 have all been seen. */
const meanings: Record<Exclude<AnswerKind, "good">, Record<Purpose, Meaning>> = {
  elsewhere: { statement: "busy", probe: "failing", search: "failing", next: "failing", resource: "failing" },
  unsigned: {
    statement: "unauthorized",
    probe: "unauthorized",
    search: "unauthorized",
    next: "unauthorized",
    resource: "unauthorized",
  },
  denied: { statement: "busy", probe: "no", search: "failing", next: "failing", resource: "no" },
  // A search is asked for what the plan has seen, so it has worked before. A next link may have expired.
  missing: { statement: "busy", probe: "no", search: "failing", next: "no", resource: "no" },
  busy: { statement: "busy", probe: "busy", search: "busy", next: "busy", resource: "busy" },
  failing: { statement: "busy", probe: "failing", search: "failing", next: "failing", resource: "failing" },
  refused: { statement: "busy", probe: "no", search: "no", next: "no", resource: "no" },
};

/** What an answer means. What has worked before is asked again: a gateway may have been restarted, or a sign-in
 *  renewed. */
export function meaningOf(purpose: Purpose, answered: AnsweredStatus, worked: WorkedBefore): Meaning {
  const kind = kindOf(answered);
  if (kind === "good") return "answer";
  const again = purpose === "statement" ? "busy" : "failing";
  if (worked.any && (kind === "elsewhere" || kind === "unsigned")) return again;
  const isWanted = purpose === "statement" || purpose === "probe";
  if (worked.same && isWanted && (kind === "denied" || kind === "missing")) return again;
  return meanings[kind][purpose];
}

/** The failure that an answer is where nobody does without it.
 *  @param at the URL, as it may be shown */
export function failureOf(answered: AnsweredStatus, at: string): FailureError {
  const { status } = answered;
  switch (kindOf(answered)) {
    case "unsigned":
    case "denied":
      return terminal(
        "SourceUnauthorized",
        `the source refuses our credentials (${status} at ${at}); check spec.auth of the FhirSource and its Secret`,
      );
    case "elsewhere":
      return terminal(
        "SourceNotFHIR",
        status >= 300 && status < 400
          ? `the source redirects (${status} at ${at}); name the final address in spec.baseURL of the FhirSource`
          : `${at} answers a web page, XML or UTF-16, not FHIR JSON in UTF-8; check spec.baseURL of the FhirSource`,
      );
    case "busy":
    case "failing":
      return waiting("SourceUnreachable", `the source answers ${status} at ${at}`);
    default:
      return terminal(
        "SourceNotFHIR",
        `the source answers ${status} at ${at}; check spec.baseURL of the FhirSource, and the log of the server`,
      );
  }
}

/** Whether an answer says that less should be asked for: a gateway has not waited so long, or the server names the size
 *  or the cost.
 *  @param text the beginning of the answer's body */
export function isTooMuch(status: number, text: string): boolean {
  if (status === 413 || status === 504) return true;
  return status >= 400 && /"code"\s*:\s*"too-(?:costly|long)"|\btoo (?:large|costly|expensive|many re)/i.test(text);
}

/** Whether a failure that stays can be that of a single resource on the page, so that other pages of the search can be
 *  read: the answer is 5xx, too large, or broken (no status). All else is an answer to the search as a whole. */
export const mayBeOfOnePage = (status: number | undefined): boolean =>
  status === undefined || status === 413 || status >= 500;

/** What begins with `<` is HTML or XML, whatever its Content-Type says; 0xFE and 0xFF begin a text in UTF-16. */
const strangeFirst = [0x3c, 0xfe, 0xff];

/** What an answer says before anybody reads its body. */
export const answeredOf = ({ status, first }: Head): AnsweredStatus => ({
  status,
  isMarkup: first !== undefined && strangeFirst.includes(first),
});
