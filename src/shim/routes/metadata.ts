import type { FastifyInstance } from "fastify";
import { definitionsOf } from "../../fhir/release.ts";
import { capabilityStatement, type PublicService } from "../capability.ts";
import { operationDefinitions, operationIds } from "../operations.ts";
import { fhirJSON, type HttpAnswer } from "../outcome.ts";
import { addRoute } from "../route.ts";
import type { RouteContext } from "./context.ts";

/** The CapabilityStatement and the OperationDefinitions. Everybody may read them, because clients look here for how
 *  to sign in. */
export async function metadataRoutes(app: FastifyInstance, { deps, base, startedAt }: RouteContext): Promise<void> {
  const service = (): PublicService => ({
    base,
    version: deps.config.version,
    since: startedAt,
    compat: deps.settings().compat,
    withTokens: deps.authority() !== undefined,
  });

  addRoute(app, "/metadata", {
    GET: async () => {
      const { types } = await deps.catalog.get();
      // a FHIR server that does not tell everybody its types: assume those that Patient and Group exports can hold
      const exportable = deps.settings().allow.types ?? types ?? Object.keys(definitionsOf("R4").compartment);
      return fhirAnswer(capabilityStatement(service(), exportable));
    },
  });
  for (const id of operationIds)
    addRoute(app, `/OperationDefinition/${id}`, { GET: async () => fhirAnswer(operationDefinitions(service())[id]) });
}

const fhirAnswer = (body: unknown): HttpAnswer => ({ status: 200, headers: { "content-type": fhirJSON }, body });
