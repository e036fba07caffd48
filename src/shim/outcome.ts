/** OperationOutcomes: the body of every answer of the shim that is an error. Pure. */

export const fhirJSON = "application/fhir+json; charset=utf-8";

/** What is wrong, in words that name the thing to mend; no value of a parameter (it may name a patient). */
export interface Issue {
  /** http://hl7.org/fhir/issue-type */
  code:
    | "invalid"
    | "required"
    | "not-supported"
    | "not-found"
    | "too-long"
    | "processing"
    | "forbidden"
    | "login"
    | "throttled"
    | "exception"
    | "transient";
  text: string;
}

export interface OperationOutcome {
  resourceType: "OperationOutcome";
  issue: { severity: "error"; code: Issue["code"]; details: { text: string }; diagnostics: string }[];
}

/** Clients read one or the other of `details.text` and `diagnostics`: both are set. */
export function operationOutcome(...issues: Issue[]): OperationOutcome {
  return {
    resourceType: "OperationOutcome",
    issue: issues.map(({ code, text }) => ({ severity: "error", code, details: { text }, diagnostics: text })),
  };
}

export interface HttpAnswer {
  status: number;
  headers: Record<string, string>;
  /** JSON; undefined is an empty body */
  body?: unknown;
}

export const errorAnswer = (status: number, ...issues: Issue[]): HttpAnswer => ({
  status,
  headers: { "content-type": fhirJSON },
  body: operationOutcome(...issues),
});

/** Our own trouble, not the export's: clients are to ask again. */
export const unavailable = (text: string): HttpAnswer => {
  const answer = errorAnswer(503, { code: "transient", text });
  return { ...answer, headers: { ...answer.headers, "retry-after": "10" } };
};
