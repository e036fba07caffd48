import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createSecureContext, type Server } from "node:tls";
import { terminal } from "../failure.ts";
import type { Logger } from "../log.ts";

/** How often the files are read again. A mounted Secret is renewed by swapping a link, and no watch of a file sees
 *  that on all file systems. */
const certificatePollMs = 10_000;

/** The certificate chain and key of the service, in PEM. */
export interface Certificate {
  cert: string;
  key: string;
}

/** Reads `tls.crt` and `tls.key`, the files of a Secret of type kubernetes.io/tls.
 *  @throws terminal UnsupportedParameter, naming the file that is wrong */
export function readCertificate(folder: string): Certificate {
  const read = (name: string) => {
    try {
      return readFileSync(join(folder, name), "utf8");
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      throw terminal("UnsupportedParameter", `${name} in the folder that --tls names cannot be read (${code})`, error);
    }
  };
  const [cert, key] = [read("tls.crt"), read("tls.key")];
  try {
    createSecureContext({ cert, key });
  } catch (error) {
    throw terminal(
      "UnsupportedParameter",
      "tls.crt and tls.key in the folder that --tls names are not a certificate and its key, in PEM",
      error,
    );
  }
  return { cert, key };
}

/** Gives new connections the renewed certificate, without restart. Files that are wrong change nothing and are logged
 *  once.
 *  @returns a function that ends this */
export function followCertificate(
  folder: string,
  used: Certificate,
  server: Pick<Server, "setSecureContext">,
  log: Logger,
): () => void {
  let current = used;
  let problem = "";
  const look = () => {
    try {
      const found = readCertificate(folder);
      problem = "";
      if (found.cert === current.cert && found.key === current.key) return;
      server.setSecureContext(found);
      current = found;
      log.info("the certificate was renewed");
    } catch (error) {
      const { message } = error as Error;
      if (message !== problem)
        log.error({ problem: message }, "the renewed certificate is not usable; the one before stays in use");
      problem = message;
    }
  };
  const timer = setInterval(look, certificatePollMs).unref();
  return () => clearInterval(timer);
}
