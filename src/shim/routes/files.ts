import type { FastifyInstance } from "fastify";
import { download } from "../download.ts";
import { authorise, loadExport } from "../hooks.ts";
import { errorAnswer } from "../outcome.ts";
import { itemOf, renderStatus, unknownExport } from "../render.ts";
import { addRoute, type Handler } from "../route.ts";
import type { RouteContext } from "./context.ts";

/** The files of a complete export, below its status URL. Only those that the manifest lists can be fetched. */
export async function fileRoutes(app: FastifyInstance, { deps, manifests }: RouteContext): Promise<void> {
  const getFile: Handler = async ({ fhirExport, access, params, headers }, reply) => {
    if (renderStatus(fhirExport, deps.now()) !== "complete") return unknownExport;
    const item = itemOf(await manifests.get(fhirExport), (params as { "*": string })["*"]);
    if (!item) return unknownFile;
    const { delivery, redirectSeconds } = deps.settings().files;
    const store = await deps.openStore(fhirExport);
    reply.raw.on("close", () => void store.close());
    const audit = { audit: "download", export: fhirExport.metadata.name, client: access.client, file: item.path };
    const answer = await download(headers, store, item, {
      delivery,
      redirectSeconds,
      onEnd: (how, bytes) => deps.log.info({ ...audit, how, bytes }),
    });
    if (answer.status === 307) deps.log.info({ ...audit, how: "redirect" });
    return answer;
  };

  addRoute(app, "/_operations/export/:id/files/*", {
    preHandler: [authorise(deps), loadExport(deps)],
    GET: getFile,
  });
}

const unknownFile = errorAnswer(404, {
  code: "not-found",
  text: "the export has no such file; the manifest at the status URL lists the URLs of all its files",
});
