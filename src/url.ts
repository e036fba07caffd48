/** A base URL or folder without the slashes at its end, so that a path can follow a slash. */
export const withoutTrailingSlash = (url: string): string => url.replace(/\/+$/, "");

/** A base URL with exactly one slash at its end, so that `new URL(relative, base)` keeps its whole path. */
export const withTrailingSlash = (url: string): string => url.replace(/\/*$/, "/");
