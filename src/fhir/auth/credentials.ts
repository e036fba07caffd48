import { terminal } from "../../failure.ts";

/** How requests to the source are authenticated. */
export interface SourceCredentials {
  /** Gives the `authorization` header for the next request, or undefined where the source needs none.
   *  @throws terminal SourceUnauthorized, which names the field or the key of the Secret to mend; transient while a
   *    token endpoint does not answer */
  header(): Promise<string | undefined>;
  /** Is called after the source answered 401.
   *  @param sent the header that it refused
   *  @returns whether header() may give another one now, so that sending again makes sense */
  renew(sent: string | undefined): Promise<boolean>;
  close(): Promise<void>;
}

/** Reads one key of the source's Secret from its file. It is read at each use, so that a rotated Secret counts at
 *  once. */
export type ReadSecret = (key: string) => Promise<string>;

export interface AccessToken {
  value: string;
  /** milliseconds for which the token is valid, counted from the moment it was asked for */
  lifeMs: number;
}

/** @throws terminal SourceUnauthorized where the text cannot be sent in a header. The message names the text by `what`
 *    and does not show it. */
export function checkToken(text: string, what: string): string {
  if (!/^[\x21-\x7e]+$/.test(text))
    throw terminal("SourceUnauthorized", `${what} holds characters that no token has, such as blanks; check its value`);
  return text;
}
