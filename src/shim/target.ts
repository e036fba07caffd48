import type { ExportTarget } from "../api/exporttarget.gen.ts";
import type { FhirExport } from "../api/fhirexport.gen.ts";
import type { Task } from "../contracts.ts";
import { withoutTrailingSlash } from "../url.ts";

/** Where the files of an export are. Container and folder are those with which it was started, from its status. Account
 *  and credentials are the target's of today, because they may have been renewed. Pure.
 *  @param volumeRoot folder of this machine where the target's volume is mounted */
export function locateFiles(
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
      // the service only reads
      blockBytes: 0,
      auth: workloadIdentity ? "workloadIdentity" : sasRef ? "sas" : "connectionString",
    },
  };
}
