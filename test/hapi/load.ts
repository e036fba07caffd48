const atOnce = 2;

/** Loads resources into a server by transaction Bundles of PUT entries. Ids and references stay as they are, and so do
 *  the bytes of each resource.
 *  @param bundleSize resources of one Bundle: all of them get one lastUpdated
 *  @throws Error with the server's answer when it refuses a Bundle */
export async function load(
  baseURL: string,
  resources: Iterable<{ type: string; id: string; text: string }>,
  bundleSize = 200,
): Promise<void> {
  const bundles = chunks(resources, bundleSize);
  const chain = async () => {
    // All chains take their Bundles from one iterator.
    for (const bundle of bundles) await send(baseURL, bundle);
  };
  await Promise.all(Array.from({ length: atOnce }, chain));
}

async function send(baseURL: string, bundle: { type: string; id: string; text: string }[]): Promise<void> {
  const entries = bundle.map(
    ({ type, id, text }) => `{"resource":${text},"request":{"method":"PUT","url":"${type}/${id}"}}`,
  );
  const answer = await fetch(baseURL, {
    method: "POST",
    headers: { "content-type": "application/fhir+json" },
    body: `{"resourceType":"Bundle","type":"transaction","entry":[${entries.join(",")}]}`,
  });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`the server refuses a Bundle (${answer.status}): ${text.slice(0, 2000)}`);
}

function* chunks<T>(items: Iterable<T>, size: number): Generator<T[]> {
  let chunk: T[] = [];
  for (const item of items) {
    chunk.push(item);
    if (chunk.length < size) continue;
    yield chunk;
    chunk = [];
  }
  if (chunk.length) yield chunk;
}
