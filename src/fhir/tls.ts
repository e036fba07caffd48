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
import { buildConnector } from "undici";
import { terminal } from "../failure.ts";
import { connectMs, type OpenSocket } from "./connection.ts";

interface Files {
  ca: string | undefined;
  cert: string | undefined;
  key: string | undefined;
}

/** A connection that a firewall has forgotten is noticed by then, not by the next request. */
const probeMs = 60_000;

/** Opens sockets to `origin` with the CA and the client certificate that the files below `source/` hold at that moment, so that rotated ones count for new
 *  connections. Without files: the well-known CAs and no client certificate. */
export function socketOpener(folder: string, origin: URL): OpenSocket {
  const isSecure = origin.protocol === "https:";
  const host = origin.hostname.replace(/^\[|\]$/g, "");
  const where = { host, port: Number(origin.port) || (isSecure ? 443 : 80) };
  const files = sourceFiles(folder);
  let known: Files | undefined;
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
  return (onread) => (isSecure ? secure(onread) : connectPlainly({ ...where, onread })).setNoDelay(true).setKeepAlive(true, probeMs);
}

/** The same for undici.
 *  @param both true: the well-known CAs are trusted besides `ca.crt`, as a token endpoint may be a public one */
export function connector(folder: string, both = false): buildConnector.connector {
  // HTTP/2 would put all requests on one connection (reference: operators B.7)
  const options = { timeout: connectMs, allowH2: false };
  const files = sourceFiles(folder);
  let known: Files | undefined;
  let connect = buildConnector(options);
  return (where, callback) => {
    try {
      const now = where.protocol === "https:" ? files() : known;
      if (now && now !== known) {
        // a new connector also forgets the TLS sessions of the old files
        connect = buildConnector({ ...options, ...secureOptions(now, both) });
        known = now;
      }
    } catch (error) {
      return callback(error as Error, null);
    }
    connect(where, callback);
  };
}

/** @returns what reads the files; it answers the same object as long as nothing has changed */
function sourceFiles(folder: string): () => Files {
  let known: Files | undefined;
  return () => (known = load(folder, known));
}

function secureOptions({ ca, cert, key }: Files, both: boolean): SecureContextOptions {
  return {
    ...(ca !== undefined && { ca: both ? [ca, ...getCACertificates("default")] : ca }),
    ...(cert !== undefined && key !== undefined && { cert, key }),
  };
}

/** @returns `known` when nothing has changed @throws terminal SourceUnauthorized, naming the key that is wrong */
function load(folder: string, known: Files | undefined): Files {
  const read = (name: string) => {
    try {
      return readFileSync(join(folder, "source", name), "utf8");
    } catch {
      return undefined;
    }
  };
  const once = (): Files => {
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

function check({ ca, cert, key }: Files): void {
  const demand = (holds: boolean, what: string) => {
    if (!holds) throw terminal("SourceUnauthorized", what);
  };
  if (ca !== undefined)
    demand(ca.includes("-----BEGIN CERT") && fits({ ca }), 'key "ca.crt" of spec.tls.caRef of the FhirSource holds no certificates in PEM');
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
