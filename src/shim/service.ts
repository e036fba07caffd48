import type { Logger } from "../log.ts";
import { withoutTrailingSlash } from "../url.ts";
import type { ShimDeps } from "./app.ts";
import { type Authority, makeAuthority } from "./auth/authority.ts";
import type { Replay } from "./auth/replay.ts";
import { ConfigFile } from "./config-file.ts";
import { parseSettings, type ShimSettings } from "./settings.ts";

/** What the app is run with, wherever it runs: the settings as they are now, and who is let in by them. */
export interface Service {
  deps: Pick<ShimDeps, "settings" | "authority">;
  close(): void;
}

interface Configured {
  settings: ShimSettings;
  authority: Authority | undefined;
}

/** @param file of the settings; undefined: all defaults, and everybody is let in
 *  @throws terminal when the file is not usable at the start */
export async function openService({
  publicURL,
  file,
  replay,
  log,
}: {
  publicURL: string;
  file: string | undefined;
  replay: Replay;
  log: Logger;
}): Promise<Service> {
  const base = withoutTrailingSlash(publicURL);
  const parse = (text: string): Configured => {
    const settings = parseSettings(text);
    return { settings, authority: settings.auth && makeAuthority(settings.auth, { base, replay, now: Date.now }) };
  };
  const config = file === undefined ? undefined : await ConfigFile.open(file, parse, log);
  const defaults = parse("");
  const current = () => config?.value ?? defaults;
  if (!current().authority)
    log.warn(
      "no auth is configured: whoever gets here can export everything that the FhirSource's credentials may read",
    );
  return {
    deps: { settings: () => current().settings, authority: () => current().authority },
    close: () => config?.close(),
  };
}
