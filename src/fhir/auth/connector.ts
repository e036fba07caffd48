import { buildConnector } from "undici";
import { connectMs, secureOptions, type TlsFiles, tlsFiles } from "../tls.ts";

/** Makes undici connect to a token endpoint with the TLS files of the source. They are read for each new connection, so
 *  that rotated files count for it. The well-known CAs are trusted as well as `ca.crt`, since a token endpoint may be a
 *  public one.
 *  @param folder the folder of the Task */
export function connector(folder: string): buildConnector.connector {
  // HTTP/2 would put all requests on one connection, and undici 8 offers it by default.
  const options = { timeout: connectMs, allowH2: false };
  const readFiles = tlsFiles(folder);
  let known: TlsFiles | undefined;
  let connect = buildConnector(options);
  return (where, callback) => {
    try {
      const files = where.protocol === "https:" ? readFiles() : known;
      if (files && files !== known) {
        // A new connector also forgets the TLS sessions that the old files began.
        connect = buildConnector({ ...options, ...secureOptions(files, true) });
        known = files;
      }
    } catch (error) {
      return callback(error as Error, null);
    }
    connect(where, callback);
  };
}
