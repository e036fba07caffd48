import type { ShimDeps } from "../deps.ts";
import type { Manifests } from "../files.ts";

/** What the routes of one app share. */
export interface RouteContext {
  deps: ShimDeps;
  manifests: Manifests;
  /** The FHIR base as clients see it, without a slash at its end. */
  base: string;
  /** When the app was built: the date of its conformance resources. */
  startedAt: Date;
}
