import { readFileSync } from "node:fs";
import { connect as connectPlainly, isIP } from "node:net";
import { join } from "node:path";
import {
  connect as connectSecurely,
  createSecureContext,
  getCACertificates,
  type SecureContext,
  type SecureContextOptions,
} from "node:tls";
import { terminal } from "../failure.ts";
import type { OpenSocket } from "./connection.ts";

/** PEM of the Secrets that a FhirSource names for TLS. */
export interface TlsFiles {
  ca: string | undefined;
  cert: string | undefined;
  key: string | undefined;
}

/** Milliseconds for a connection: name, TCP and TLS. */
export const connectMs = 10_000;
/** An answer may take minutes, in which only probes tell a firewall that the connection is in use, and us that the
 *  server is there. */
const probeMs = 60_000;

/** Opens sockets to `origin` with the CA and the client certificate that the files below `source/` hold at that moment,
 *  so that rotated ones count for new connections. Without files: the well-known CAs and no client certificate. */
export function socketOpener(folder: string, origin: URL): OpenSocket {
  const isSecure = origin.protocol === "https:";
  const host = origin.hostname.replace(/^\[|\]$/g, "");
  const where = { host, port: Number(origin.port) || (isSecure ? 443 : 80) };
  const files = tlsFiles(folder);
  let known: TlsFiles | undefined;
  let secureContext: SecureContext | undefined;
  // a server that knows us spares both the costly part of the handshake
  let session: Buffer | undefined;
  const secure: OpenSocket = (onread) => {
    const now = files();
    if (now !== known) {
      secureContext = createSecureContext(secureOptions(now, false));
      [known, session] = [now, undefined];
    }
    const options = {
      ...where,
      onread,
      secureContext: secureContext!,
      ALPNProtocols: ["http/1.1"],
      // an address is no name to ask for (RFC 6066 section 3); the certificate is held against the host then
      servername: isIP(host) ? "" : host,
      ...(session && { session }),
    };
    return connectSecurely(options).on("session", (given) => {
      if (now === known) session = given;
    });
  };
  return (onread) =>
    (isSecure ? secure(onread) : connectPlainly({ ...where, onread })).setNoDelay(true).setKeepAlive(true, probeMs);
}

/** Reads the files as they are at that moment: the same object as long as nothing has changed.
 *  @throws terminal SourceUnauthorized, naming the key that is wrong */
export function tlsFiles(folder: string): () => TlsFiles {
  let known: TlsFiles | undefined;
  return () => (known = load(folder, known));
}

/** What a connection needs of them.
 *  @param both true: the well-known CAs are trusted besides `ca.crt`, as a token endpoint may be a public one */
export function secureOptions({ ca, cert, key }: TlsFiles, both: boolean): SecureContextOptions {
  return {
    ...(ca !== undefined && { ca: both ? [ca, ...getCACertificates("default")] : ca }),
    ...(cert !== undefined && key !== undefined && { cert, key }),
  };
}

/** @returns `known` when nothing has changed @throws terminal SourceUnauthorized, naming the key that is wrong */
function load(folder: string, known: TlsFiles | undefined): TlsFiles {
  const read = (name: string) => {
    try {
      return readFileSync(join(folder, "source", name), "utf8");
    } catch {
      return undefined;
    }
  };
  const once = (): TlsFiles => {
    const files = { ca: read("ca.crt"), cert: read("tls.crt"), key: read("tls.key") };
    if (known && files.ca === known.ca && files.cert === known.cert && files.key === known.key) return known;
    check(files);
    return files;
  };
  try {
    return once();
  } catch {
    // the files may have been replaced between two reads
    return once();
  }
}

function check({ ca, cert, key }: TlsFiles): void {
  const demand = (holds: boolean, what: string) => {
    if (!holds) throw terminal("SourceUnauthorized", what);
  };
  if (ca !== undefined)
    demand(
      ca.includes("-----BEGIN CERT") && fits({ ca }),
      'key "ca.crt" of spec.tls.caRef of the FhirSource holds no certificates in PEM',
    );
  if (cert === undefined && key === undefined) return;
  const secret = "in the Secret of spec.tls.clientCertificateRef of the FhirSource";
  if (cert === undefined || key === undefined)
    throw terminal("SourceUnauthorized", `there is no key "${cert === undefined ? "tls.crt" : "tls.key"}" ${secret}`);
  demand(fits({ cert }), `key "tls.crt" ${secret} is not a certificate in PEM`);
  demand(fits({ key }), `key "tls.key" ${secret} is not a private key in PEM without passphrase`);
  demand(fits({ cert, key }), `keys "tls.crt" and "tls.key" ${secret} do not belong together`);
}

function fits(given: SecureContextOptions): boolean {
  try {
    createSecureContext(given);
    return true;
  } catch {
    return false;
  }
}

/** What to mend where a connection failed over certificates; undefined for other errors. */
export function tlsHint(code: string): string | undefined {
  if (/ALERT_(CERTIFICATE_|BAD_CERTIFICATE|UNKNOWN_CA|ACCESS_DENIED)/.test(code))
    return "spec.tls.clientCertificateRef of the FhirSource: the server wants a client certificate, or another one";
  if (/SELF_SIGNED|UNABLE_TO_(GET|VERIFY)|CERT_|ALTNAME|INVALID_CA|UNTRUSTED/.test(code))
    return "the server's certificate, and spec.tls.caRef of the FhirSource";
  return undefined;
}
