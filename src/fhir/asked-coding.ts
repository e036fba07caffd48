import type { FailureError } from "../failure.ts";
import type { Head } from "./http.ts";

const plain: Readonly<Record<string, string>> = {};
const gzip: Readonly<Record<string, string>> = { "accept-encoding": "gzip" };

/** Whether bodies are asked for as gzip: from the first one on that came in crumbs, and never again where one cannot be
 *  unpacked. Sources on fast networks give plain pages faster. */
export class AskedCoding {
  #asked = plain;
  #isRefuted = false;

  /** The headers to ask with; one object for each way of asking.
   *  @param isRepeated the request has failed: it is asked for in the surest way */
  headers(isRepeated: boolean | undefined): Readonly<Record<string, string>> {
    return isRepeated ? plain : this.#asked;
  }

  note({ isCrumbled }: Head): void {
    if (isCrumbled && !this.#isRefuted) this.#asked = gzip;
  }

  /** A request has failed. An answer that is no page may be one that was not packed as it says. */
  noteFailure({ reason }: FailureError): void {
    if (this.#asked !== gzip || reason !== "SourceInconsistent") return;
    this.#asked = plain;
    this.#isRefuted = true;
  }
}
