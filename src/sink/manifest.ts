import type { FilePart } from "../contracts.ts";

export interface ManifestItem {
  type: string;
  /** below the export's folder */
  path: string;
  /** bare blob or file URL */
  url: string;
  count: number;
  fileSize: number;
  /** of the stored bytes */
  sha256: string;
  /** of the content before gzip */
  contentSha256?: string;
}

/** whether every resource as of transactionTime is in the output once */
export const exactKey = "fhirexport.dev/exact";
/** resources that could not be had; the error files hold the first hundred of a shard */
export const errorsKey = "fhirexport.dev/errors";

/** The Bulk Data manifest as it stands in storage (DESIGN section 6, contract). */
export interface Manifest {
  transactionTime: string;
  request: string;
  requiresAccessToken: boolean;
  outputFormat: "application/fhir+ndjson";
  output: ManifestItem[];
  deleted: ManifestItem[];
  error: ManifestItem[];
  extension: { [exactKey]: boolean; [errorsKey]: number };
}

/** @param url gives a path's bare URL */
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

/** Pretty, as people read it; with a last line end. */
export const renderManifest = (manifest: Manifest): Buffer => Buffer.from(`${JSON.stringify(manifest, null, 2)}\n`);

/** `SHA256SUMS` as `sha256sum -c` reads it. */
export function renderSums(manifest: Manifest): Buffer {
  return Buffer.from(
    [...manifest.output, ...manifest.deleted, ...manifest.error]
      .map(({ sha256, path }) => `${sha256}  ${path}\n`)
      .join(""),
  );
}
