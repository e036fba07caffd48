import { terminal } from "../failure.ts";

/** @returns what refuses a link that was followed before: the pages would never end */
export function onceEach(type: string): (link: string) => void {
  const visited = new Set<string>();
  return (link) => {
    if (visited.has(link))
      throw terminal("SourceInconsistent", `the source's next link repeats in a search or history of ${type}`);
    visited.add(link);
  };
}
