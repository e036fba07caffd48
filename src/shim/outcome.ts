/** The answers of the service, and OperationOutcomes: the body of every answer that is an error. Pure. */

export const fhirJSON = "application/fhir+json; charset=utf-8";

/** What is wrong. The text names the parameter or header to mend and what to send instead. It repeats no value of a
 *  parameter, which may name a patient. */
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

/** Some clients show `details.text` and others `diagnostics`, so both hold the text. */
export function operationOutcome(...issues: Issue[]): OperationOutcome {
  return {
    resourceType: "OperationOutcome",
    issue: issues.map(({ code, text }) => ({ severity: "error", code, details: { text }, diagnostics: text })),
  };
}

export interface HttpAnswer {
  status: number;
  headers: Record<string, string>;
  /** An object, which is sent as JSON, or a stream; undefined: an empty body. */
  body?: unknown;
}

export const withHeaders = (answer: HttpAnswer, headers: Record<string, string>): HttpAnswer => ({
  ...answer,
  headers: { ...answer.headers, ...headers },
});

export const errorAnswer = (status: number, ...issues: Issue[]): HttpAnswer => ({
  status,
  headers: { "content-type": fhirJSON },
  body: operationOutcome(...issues),
});

/** The 503 for a fault of this service or of what it depends on. It says nothing about the export, and clients
 *  repeat the request. */
export const unavailable = (text: string): HttpAnswer =>
  withHeaders(errorAnswer(503, { code: "transient", text }), { "retry-after": "10" });
