import type { FastifyInstance } from "fastify";
import { annotations } from "../../api/names.ts";
import { authorise, loadExport } from "../hooks.ts";
import { PollLimiter } from "../limits.ts";
import { errorAnswer, withHeaders } from "../outcome.ts";
import { renderServedManifest, renderStatus, separately } from "../render.ts";
import { addRoute, type Handler } from "../route.ts";
import { statusURL } from "../urls.ts";
import type { RouteContext } from "./context.ts";

/** The status URL of an export: GET tells its progress and at its end the manifest, DELETE cancels it or deletes
 *  what it wrote. */
export async function statusRoutes(app: FastifyInstance, { deps, manifests, base }: RouteContext): Promise<void> {
  const polls = new PollLimiter();

  const getStatus: Handler = async ({ fhirExport }) => {
    const { name, annotations: notes } = fhirExport.metadata;
    const { limits, compat } = deps.settings();
    const seconds = polls.wait(name, limits.pollsPerMinute, deps.now().getTime());
    if (seconds > 0) return withHeaders(polledTooOften, { "retry-after": String(seconds) });
    let answer = renderStatus(fhirExport, deps.now());
    if (answer === "complete") {
      const manifest = await manifests.get(fhirExport);
      answer =
        compat === "azure"
          ? renderServedManifest(manifest, undefined, fhirExport)
          : renderServedManifest(manifest, statusURL(base, name), fhirExport, deps.authority() !== undefined);
    }
    return notes?.[annotations.separateStatus] ? separately(answer) : answer;
  };

  const cancel: Handler = async ({ fhirExport, access }) => {
    const { name } = fhirExport.metadata;
    await deps.exports.cancel(name);
    deps.log.info({ audit: "cancel", export: name, client: access.client });
    return { status: 202, headers: {} };
  };

  addRoute(app, "/_operations/export/:id", {
    preHandler: [authorise(deps), loadExport(deps)],
    GET: getStatus,
    DELETE: cancel,
  });
}

const polledTooOften = errorAnswer(429, {
  code: "throttled",
  text: "this status URL is asked too often; wait the seconds that the header Retry-After says before each request",
});
