import { createHash } from "node:crypto";

/** SHA-256 of bytes that are all in memory, as 64 lower-case hexadecimal digits. */
export const sha256Of = (bytes: string | Uint8Array): string => createHash("sha256").update(bytes).digest("hex");
