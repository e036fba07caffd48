import { RestError } from "@azure/storage-blob";
import { FailureError, terminal, waiting } from "../failure.ts";

export const isStatus = (error: unknown, ...statuses: number[]): boolean =>
  error instanceof RestError && error.statusCode !== undefined && statuses.includes(error.statusCode);

/** Azure's own code of an error, e.g. `BlobNotFound`; else the code of the connection's error. */
export const storageCodeOf = (error: unknown): string | undefined =>
  error instanceof RestError
    ? ((error.details as { errorCode?: string } | undefined)?.errorCode ?? error.code)
    : undefined;

export const isMissingContainer = (error: unknown): boolean =>
  storageCodeOf(error) === "ContainerNotFound" || storageCodeOf(error) === "ContainerBeingDeleted";

/** What an error of the SDK means for the export. Azure's raw message holds headers and the string that was signed
 *  (microsoft/fhir-server #2919), so only its status and code are kept.
 *  @throws the error itself where it is none of storage, which is a fault of this program */
export function storageFailure(error: unknown, container: string): FailureError {
  if (error instanceof FailureError) return error;
  if (!(error instanceof RestError)) throw error;
  const [status, code] = [error.statusCode, storageCodeOf(error)];
  const said = `${status ?? ""} ${code ?? ""}`.trim();
  if (code === "ContainerNotFound")
    return terminal(
      "InvalidContainer",
      `container "${container}" does not exist in the ExportTarget's account; create it, or allow the credentials to create it`,
      error,
    );
  if (code === "InvalidResourceName" || code === "OutOfRangeInput")
    return terminal(
      "InvalidContainer",
      `Azure does not accept "${container}" as the name of a container; change the container's name`,
      error,
    );
  const own = ownRefusal(error, said);
  if (own) return own;
  if (status === 401 || status === 403)
    return terminal(
      "TargetUnauthorized",
      `storage refuses the ExportTarget's credentials (${said}); they must allow to read, write, list, create and delete blobs in container "${container}"`,
      error,
    );
  if (status === undefined || status >= 500 || code === "ContainerBeingDeleted")
    return waiting(
      "TargetUnreachable",
      `storage of the ExportTarget does not answer (${said || error.name}); check accountURL or the connection string, and the network`,
      error,
    );
  if (code?.startsWith("BlobImmutable"))
    return terminal(
      "TargetUnauthorized",
      `container "${container}" of the ExportTarget has an immutability policy or a legal hold (${said}); its files can be deleted only after that has ended`,
      error,
    );
  // somebody holds a lease on the blob, or a soft delete is under way
  if (status === 409 || status === 412)
    return waiting(
      "TargetUnreachable",
      `storage of the ExportTarget refuses a request for now (${said}); end any lease on the blobs of container "${container}"`,
      error,
    );
  return terminal("TargetUnreachable", `storage of the ExportTarget answers ${said}`, error);
}

/** What storage refuses not because of the export, but because of its own version or of a clock, or what it never got
 *  to see. Only from the text of the error can that be told. */
function ownRefusal(error: RestError, said: string): FailureError | undefined {
  const { statusCode: status, message, response } = error;
  const code = storageCodeOf(error);
  if (code === "InvalidHeaderValue" && /x-ms-version|API version/i.test(message))
    return terminal(
      "TargetUnreachable",
      `storage of the ExportTarget does not know the API version of this release (${said}, header x-ms-version); upgrade it, or start an Azurite with --skipApiVersionCheck`,
      error,
    );
  if (status === 403 && /\bdate\b[^.]*\b(too old|not valid|skew)|RequestTimeTooSkewed/i.test(message))
    return waiting(
      "TargetUnauthorized",
      `storage of the ExportTarget refuses the date of a request (${said}): the clock of this machine and that of the storage are more than 15 minutes apart; set the clock of this machine`,
      error,
    );
  if (status === 403 && code === undefined && response?.headers.get("x-ms-request-id") === undefined)
    return terminal(
      "TargetUnauthorized",
      `something before the storage of the ExportTarget refuses requests (${said}, without a code of Azure); check proxies, firewalls and accountURL`,
      error,
    );
  return undefined;
}
