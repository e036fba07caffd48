import type { ExportTarget } from "../api/exporttarget.gen.ts";
import type { FhirExport } from "../api/fhirexport.gen.ts";
import type { Task } from "../contracts.ts";
import { withoutTrailingSlash } from "../url.ts";

/** Where the files of an export are: as it was started (its status), in the target as it is now, whose credentials may have been renewed. Pure.
 *  @param volumeRoot where the target's volume is found on this machine */
export function locate(
  { status }: FhirExport,
  { spec: { azureBlob, volume } }: ExportTarget,
  volumeRoot: string,
): Task["target"] {
  const { container = "", prefix: folder = "" } = status?.output ?? {};
  if (!azureBlob) return { folder, volume: { path: [volumeRoot, volume?.path].filter(Boolean).join("/") } };
  const { workloadIdentity, sasRef } = azureBlob.auth;
  return {
    folder,
    azureBlob: {
      accountURL: withoutTrailingSlash(azureBlob.accountURL),
      container,
      createContainer: false,
      // nothing is written here
      blockBytes: 0,
      auth: workloadIdentity ? "workloadIdentity" : sasRef ? "sas" : "connectionString",
    },
  };
}
