import type { Logger } from "../log.ts";
import { withoutTrailingSlash } from "../url.ts";
import { type Authority, makeAuthority } from "./auth/authority.ts";
import type { Replay } from "./auth/replay.ts";
import { ConfigFile } from "./config-file.ts";
import type { ShimDeps } from "./deps.ts";
import { parseSettings, type ShimSettings } from "./settings.ts";

/** The part of the app's dependencies that is the same wherever it runs: the settings as they are now, and who may
 *  use the service by them. */
export interface Service {
  deps: Pick<ShimDeps, "settings" | "authority">;
  close(): void;
}

interface Configured {
  settings: ShimSettings;
  authority: Authority | undefined;
}

/** Reads the settings and follows their file.
 *  @param file undefined: all settings have their defaults, and everybody may use the service
 *  @throws terminal UnsupportedParameter when the file is not usable at the start */
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
      "the settings have no auth: everybody who reaches this service can export all that the FhirSource's credentials can read",
    );
  return {
    deps: { settings: () => current().settings, authority: () => current().authority },
    close: () => config?.close(),
  };
}
