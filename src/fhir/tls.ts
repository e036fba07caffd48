import { readFileSync } from "node:fs";
import { connect as connectPlainly, isIP, type Socket } from "node:net";
import { join } from "node:path";
import {
  connect as connectSecurely,
  createSecureContext,
  getCACertificates,
  type SecureContext,
  type SecureContextOptions,
} from "node:tls";
import type { Task } from "../contracts.ts";
import { terminal } from "../failure.ts";
import type { OpenSocket } from "./connection.ts";
import { feed, tunnelsTo } from "./proxy.ts";

/** The PEM texts of `spec.tls` of a FhirSource; undefined for what it does not name. */
export interface TlsFiles {
  ca: string | undefined;
  cert: string | undefined;
  key: string | undefined;
}

/** Milliseconds within which a connection must be made: the lookup of the name, TCP and TLS together. */
export const connectMs = 10_000;
/** An answer may take minutes. Meanwhile TCP keep-alive probes show a firewall that the connection is in use, and us
 *  that the server is still there. */
const tcpProbeMs = 60_000;

/** Opens sockets to `origin` with the CA and the client certificate of `spec.tls`. Their files are read for each new
 *  connection, so that rotated ones count for it. Without files the well-known CAs are trusted, and no client
 *  certificate is sent.
 *  @param folder the folder of the Task
 *  @param proxy through which all connections are made
 *  @returns throws terminal SourceUnauthorized where a file is not valid */
export function socketOpener(folder: string, origin: URL, proxy?: Task["source"]["proxy"]): OpenSocket {
  const isSecure = origin.protocol === "https:";
  const host = origin.hostname.replace(/^\[|\]$/g, "");
  const where = { host, port: Number(origin.port) || (isSecure ? 443 : 80) };
  const tunnel = proxy && tunnelsTo(where, proxy, folder);
  const files = tlsFiles(folder);
  let known: TlsFiles | undefined;
  let secureContext: SecureContext | undefined;
  // The session of an earlier connection spares both sides the costly part of the handshake.
  let session: Buffer | undefined;
  const secure: OpenSocket = (onread) => {
    const now = files();
    if (now !== known) {
      secureContext = createSecureContext(secureOptions(now, false));
      [known, session] = [now, undefined];
    }
    const options = {
      ...where,
      // Node gives nothing to `onread` where it has not made the connection itself.
      ...(tunnel ? { socket: tunnel() } : { onread }),
      secureContext: secureContext!,
      ALPNProtocols: ["http/1.1"],
      // An IP address may not be sent as a server name (RFC 6066 section 3). The certificate is then checked against
      // `host`.
      servername: isIP(host) ? "" : host,
      ...(session && { session }),
    };
    const socket = connectSecurely(options).on("session", (given) => {
      if (now === known) session = given;
    });
    if (tunnel) feed(socket, onread);
    return socket;
  };
  const plain: OpenSocket = (onread) => {
    if (!tunnel) return connectPlainly({ ...where, onread });
    const stream = tunnel();
    feed(stream, onread);
    // It has all that a Connection uses of a socket.
    return stream as unknown as Socket;
  };
  const open = isSecure ? secure : plain;
  return (onread) => open(onread).setNoDelay(true).setKeepAlive(true, tcpProbeMs);
}

/** @returns reads the files as they are at that moment, and gives the same object while nothing has changed. It throws
 *    terminal SourceUnauthorized, which names the key that is wrong. */
export function tlsFiles(folder: string): () => TlsFiles {
  let known: TlsFiles | undefined;
  return () => (known = readTlsFiles(folder, known));
}

/** The options of a TLS connection with these files.
 *  @param trustWellKnown whether the well-known CAs are trusted besides `ca.crt` */
export function secureOptions({ ca, cert, key }: TlsFiles, trustWellKnown: boolean): SecureContextOptions {
  return {
    ...(ca !== undefined && { ca: trustWellKnown ? [ca, ...getCACertificates("default")] : ca }),
    ...(cert !== undefined && key !== undefined && { cert, key }),
  };
}

/** @returns `known` where nothing has changed @throws terminal SourceUnauthorized, which names the key that is wrong */
function readTlsFiles(folder: string, known: TlsFiles | undefined): TlsFiles {
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
    checkTlsFiles(files);
    return files;
  };
  try {
    return once();
  } catch {
    // The files may have been replaced between two reads, so that they did not fit each other.
    return once();
  }
}

function checkTlsFiles({ ca, cert, key }: TlsFiles): void {
  const demand = (holds: boolean, what: string) => {
    if (!holds) throw terminal("SourceUnauthorized", what);
  };
  if (ca !== undefined)
    demand(
      ca.includes("-----BEGIN CERT") && isUsable({ ca }),
      'key "ca.crt" of spec.tls.caRef of the FhirSource holds no certificates in PEM',
    );
  if (cert === undefined && key === undefined) return;
  const secret = "in the Secret of spec.tls.clientCertificateRef of the FhirSource";
  if (cert === undefined || key === undefined)
    throw terminal(
      "SourceUnauthorized",
      `there is no key "${cert === undefined ? "tls.crt" : "tls.key"}" ${secret}; it needs both tls.crt and tls.key`,
    );
  demand(isUsable({ cert }), `key "tls.crt" ${secret} is not a certificate in PEM`);
  demand(isUsable({ key }), `key "tls.key" ${secret} is not a private key in PEM without passphrase`);
  demand(isUsable({ cert, key }), `keys "tls.crt" and "tls.key" ${secret} do not belong together`);
}

function isUsable(given: SecureContextOptions): boolean {
  try {
    createSecureContext(given);
    return true;
  } catch {
    return false;
  }
}

/** What to check where a connection failed because of certificates; undefined for other error codes. */
export function tlsHint(code: string): string | undefined {
  if (/ALERT_(CERTIFICATE_|BAD_CERTIFICATE|UNKNOWN_CA|ACCESS_DENIED)/.test(code))
    return "spec.tls.clientCertificateRef of the FhirSource: the server wants a client certificate, or another one";
  if (/SELF_SIGNED|UNABLE_TO_(GET|VERIFY)|CERT_|ALTNAME|INVALID_CA|UNTRUSTED/.test(code))
    return "the server's certificate, and spec.tls.caRef of the FhirSource";
  return undefined;
}
