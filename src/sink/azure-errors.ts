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
