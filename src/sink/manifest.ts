import type { FilePart } from "../contracts.ts";
import type { Proof } from "../evidence.ts";

export interface ManifestItem {
  type: string;
  /** path below the export's folder */
  path: string;
  /** bare blob URL or file URL */
  url: string;
  /** lines */
  count: number;
  /** stored bytes */
  fileSize: number;
  /** of the stored bytes */
  sha256: string;
  /** of the content before gzip */
  contentSha256?: string;
}

/** Extension: whether every resource as of transactionTime is in the output once. */
export const exactKey = "fhirexport.dev/exact";
/** Extension: how many resources could not be read. The error files hold an OperationOutcome for the first hundred of
 *  each shard. */
export const errorsKey = "fhirexport.dev/errors";

/** Extension: how it is known of each type that nothing is missing. `counted`: each search has shown as many resources
 *  as the source counts in it. `agreed`: the source does not count, and several readings have shown the same. `none`:
 *  it is not known; the error files say why. */
export const proofsKey = "fhirexport.dev/proofs";

/** The Bulk Data manifest as it is stored, as `manifest.json`. It is a contract: others than this program read it. */
export interface Manifest {
  transactionTime: string;
  request: string;
  requiresAccessToken: boolean;
  outputFormat: "application/fhir+ndjson";
  output: ManifestItem[];
  deleted: ManifestItem[];
  error: ManifestItem[];
  extension: { [exactKey]: boolean; [errorsKey]: number; [proofsKey]?: Record<string, Proof | "none"> };
}

/** The manifest's item for a committed file. @param url gives the bare URL of a path */
export function manifestItem(type: string, file: FilePart, url: (path: string) => string): ManifestItem {
  const { name, lines, bytes, sha256, contentSha256 } = file;
  return {
    type,
    path: name,
    url: url(name),
    count: lines,
    fileSize: bytes,
    sha256: sha256!,
    ...(contentSha256 && { contentSha256 }),
  };
}

/** Indented, since people read it, and with a line end at the end. */
export const renderManifest = (manifest: Manifest): Buffer => Buffer.from(`${JSON.stringify(manifest, null, 2)}\n`);

/** `SHA256SUMS`, in the form that `sha256sum --check` reads. */
export function renderSums(manifest: Manifest): Buffer {
  return Buffer.from(
    [...manifest.output, ...manifest.deleted, ...manifest.error]
      .map(({ sha256, path }) => `${sha256}  ${path}\n`)
      .join(""),
  );
}
