import { type HttpHeaders, type IHttpClient, RestError } from "@azure/storage-blob";
import { EnvHttpProxyAgent, request } from "undici";

// HTTP/2 would put all blocks on one connection. Azurite closes idle connections after 5 s.
const agent = new EnvHttpProxyAgent({ allowH2: false, keepAliveTimeout: 4000 });

const pieceBytes = 1 << 18;

/** What gateways before the storage answer where it would say 503, which is what the SDK tries again for. */
const retriedStatuses = new Set([408, 429]);

/** What the SDK sends its requests with: undici takes a block from where it lies at twice the rate of node:http, which the SDK uses by itself
 *  (2.2 GB/s against 0.9). Retries, signatures and the rest stay the SDK's. */
export const httpClient: IHttpClient = {
  async sendRequest(sent) {
    const headers = sent.headers.toJson({ preserveCase: true });
    try {
      const answer = await request(sent.url, {
        dispatcher: agent,
        method: sent.method,
        headers,
        body: bodyOf(sent),
        ...(sent.abortSignal && { signal: sent.abortSignal as AbortSignal }),
        ...(sent.timeout > 0 && { headersTimeout: sent.timeout, bodyTimeout: sent.timeout }),
      });
      // undici calls it an error when a reader leaves early; the SDK, which then has no listener any more, does not
      answer.body.on("error", () => {});
      const streams =
        sent.streamResponseStatusCodes?.has(answer.statusCode) ||
        sent.streamResponseStatusCodes?.has(Number.POSITIVE_INFINITY);
      return {
        request: sent,
        status: retriedStatuses.has(answer.statusCode) ? 503 : answer.statusCode,
        headers: headersOf(answer.headers),
        ...(streams ? { readableStreamBody: answer.body } : { bodyAsText: await answer.body.text() }),
      };
    } catch (error) {
      if (sent.abortSignal?.aborted) throw error;
      const { code } = error as NodeJS.ErrnoException;
      // the SDK tries again for this code and for those of the system, not for undici's own
      throw new RestError((error as Error).message, {
        code: code && !code.startsWith("UND_") ? code : RestError.REQUEST_SEND_ERROR,
      });
    }
  },
};

/** What is written to a TLS socket node encrypts at once and keeps until it is sent, a block for each chain. In pieces it keeps one of them: 221 MiB of a
 *  worker's RSS instead of 270, at the same rate. Without TLS a block is sent from where it lies. */
function bodyOf({ url, body }: { url: string; body?: unknown }): Buffer | string | null {
  const isLarge = body instanceof Uint8Array && body.length > pieceBytes && url.startsWith("https:");
  // undici takes iterables, its types do not
  return (isLarge ? pieces(body) : body) as Buffer | string | null;
}

async function* pieces(body: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < body.length; at += pieceBytes) yield body.subarray(at, at + pieceBytes);
}

/** Of the SDK's interface its adapter uses only this. */
const headersOf = (headers: Record<string, string | string[] | undefined>) =>
  ({
    toJson: () =>
      Object.fromEntries(
        Object.entries(headers).map(([name, value]) => [name, Array.isArray(value) ? value.join(", ") : value]),
      ),
  }) as unknown as HttpHeaders;
