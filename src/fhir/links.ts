import { terminal } from "../failure.ts";

/** Guards a search or a history whose pages would never end.
 *  @returns a function that is told each link before it is followed, and throws terminal SourceInconsistent when a link
 *  comes again */
export function onceEach(type: string): (link: string) => void {
  const visited = new Set<string>();
  return (link) => {
    if (visited.has(link))
      throw terminal("SourceInconsistent", `the source's next link repeats in a search or history of ${type}`);
    visited.add(link);
  };
}
