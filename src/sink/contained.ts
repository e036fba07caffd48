import { terminal } from "../failure.ts";
import type { Store } from "./store.ts";

/** What S3, Google Cloud Storage and Azure take as a key. */
const maxKeyBytes = 1024;

const leadsOut = () =>
  terminal(
    "Internal",
    "a path leads out of the export's folder, or is none that every store can take; the source may name types that are no FHIR types",
  );

/** Whether every store takes the path, and finds it below the export's folder: it has no part that is empty, `.` or
 *  `..`, no backslash and no control character. A URL or a file system would resolve these to another place. */
export function isContained(path: string, folder = ""): boolean {
  const key = folder === "" ? path : `${folder}/${path}`;
  return (
    // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
    !/[\\\u0000-\u001f\u007f]/.test(key) &&
    key.split("/").every((part) => part !== "" && part !== "." && part !== "..") &&
    Buffer.byteLength(key) <= maxKeyBytes
  );
}

/** Checks the paths of all calls before a store sees them, so that no store can forget it.
 *  @param folder the export's; empty is the container itself
 *  @returns the same store, whose calls fail with terminal Internal for a path that `isContained` refuses */
export function contained(store: Store, folder: string): Store {
  const check = (path: string): string => {
    if (!isContained(path, folder)) throw leadsOut();
    return path;
  };
  /** of a list: the last part may be incomplete or missing */
  const checkPrefix = (prefix: string) => void (prefix !== "" && check(`${prefix}x`));
  if (folder !== "") check("x");
  const { signedURL } = store;
  return {
    prepare: () => store.prepare(),
    read: async (path) => store.read(check(path)),
    create: async (path, bytes, type) => store.create(check(path), bytes, type),
    replace: async (path, bytes, tag) => store.replace(check(path), bytes, tag),
    size: async (path) => store.size(check(path)),
    remove: async (path) => store.remove(check(path)),
    async *list(prefix) {
      checkPrefix(prefix);
      yield* store.list(prefix);
    },
    async *unfinished(prefix) {
      checkPrefix(prefix);
      yield* store.unfinished(prefix);
    },
    abandon: async (path, key) => store.abandon(check(path), key),
    stream: async (path, range) => store.stream(check(path), range),
    upload: async (path, type, key) => store.upload(check(path), type, key),
    url: (path) => store.url(check(path)),
    ...(signedURL && { signedURL: async (path, seconds) => signedURL(check(path), seconds) }),
    requestSeconds: store.requestSeconds,
    close: () => store.close(),
  };
}
