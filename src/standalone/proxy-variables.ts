import { terminal } from "../failure.ts";

/** A proxy that the environment names. */
export interface NamedProxy {
  url: string;
  signIn?: { username: string; password: string };
}

/** The proxy for a server by HTTPS_PROXY, HTTP_PROXY and NO_PROXY, as curl and most tools read them: small letters come
 *  first, and NO_PROXY is a list of hosts, each with all that is below it, or `*`.
 *  @returns undefined where the server is reached without a proxy
 *  @throws terminal, naming the variable, where it is no URL of a proxy */
export function proxyFor(server: string, env: NodeJS.ProcessEnv): NamedProxy | undefined {
  const target = URL.parse(server);
  if (!target) return undefined;
  const variable = target.protocol === "https:" ? "HTTPS_PROXY" : "HTTP_PROXY";
  const text = env[variable.toLowerCase()] || env[variable];
  if (!text || isExcepted(target, env.no_proxy || env.NO_PROXY || "")) return undefined;
  const url = URL.parse(/^[a-z][a-z0-9+.-]*:\/\//i.test(text) ? text : `http://${text}`);
  if (!url || !/^https?:$/.test(url.protocol))
    throw terminal(
      "UnsupportedParameter",
      `${variable} must be the http or https URL of a proxy, for example http://proxy.example.org:3128`,
    );
  const signIn = { username: decodeURIComponent(url.username), password: decodeURIComponent(url.password) };
  return { url: url.origin, ...(url.username && { signIn }) };
}

function isExcepted({ hostname, host }: URL, list: string): boolean {
  const name = hostname.replace(/^\[|\]$/g, "").toLowerCase();
  return list
    .toLowerCase()
    .split(/[\s,]+/)
    .filter((item) => item !== "")
    .some((item) => {
      const bare = item.replace(/^\*?\./, "");
      return item === "*" || bare === name || bare === host || name.endsWith(`.${bare}`);
    });
}
