import { buildConnector } from "undici";
import { connectMs, secureOptions, type TlsFiles, tlsFiles } from "../tls.ts";

/** For a token endpoint: connects with undici and the TLS files of the source as they are at that moment, so that rotated ones count for new connections.
 *  The well-known CAs are trusted, too, as such an endpoint may be a public one. */
export function connector(folder: string): buildConnector.connector {
  // HTTP/2 would put all requests on one connection (reference: operators B.7)
  const options = { timeout: connectMs, allowH2: false };
  const files = tlsFiles(folder);
  let known: TlsFiles | undefined;
  let connect = buildConnector(options);
  return (where, callback) => {
    try {
      const now = where.protocol === "https:" ? files() : known;
      if (now && now !== known) {
        // a new connector also forgets the TLS sessions of the old files
        connect = buildConnector({ ...options, ...secureOptions(now, true) });
        known = now;
      }
    } catch (error) {
      return callback(error as Error, null);
    }
    connect(where, callback);
  };
}
