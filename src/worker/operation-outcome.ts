/** An OperationOutcome as one NDJSON line, without the line end.
 *  @param code a code of FHIR's value set issue-type */
export function outcomeLine(severity: "error" | "warning" | "information", code: string, text: string): string {
  return JSON.stringify({
    resourceType: "OperationOutcome",
    issue: [{ severity, code, details: { text }, diagnostics: text }],
  });
}
