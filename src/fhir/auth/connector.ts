import type { Socket } from "node:net";
import { buildConnector } from "undici";
import type { Task } from "../../contracts.ts";
import { type Tunnel, tunnelsTo } from "../proxy.ts";
import { connectMs, secureOptions, type TlsFiles, tlsFiles } from "../tls.ts";

/** Makes undici connect to a token endpoint with the TLS files of the source. They are read for each new connection, so
 *  that rotated files count for it. The well-known CAs are trusted as well as `ca.crt`, since a token endpoint may be a
 *  public one.
 *  @param folder the folder of the Task
 *  @param proxy through which the source is reached, and so the endpoint */
export function connector(folder: string, proxy?: Task["source"]["proxy"]): buildConnector.connector {
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
    if (!proxy) return connect(where, callback);
    const isSecure = where.protocol === "https:";
    const host = where.hostname.replace(/^\[|\]$/g, "");
    let tunnel: Tunnel;
    try {
      tunnel = tunnelsTo({ host, port: Number(where.port) || (isSecure ? 443 : 80) }, proxy, folder)();
    } catch (error) {
      return callback(error as Error, null);
    }
    // undici uses nothing of a socket that a Tunnel has not.
    const socket = tunnel as unknown as Socket;
    tunnel
      .once("error", (error) => callback(error, null))
      .once("connect", () => (isSecure ? connect({ ...where, httpSocket: socket }, callback) : callback(null, socket)));
  };
}
