/** Guards a search or a history whose pages would never end.
 *  @returns a function that is told each link before it is followed, and answers false when a link comes again */
export function onceEach(): (link: string) => boolean {
  const visited = new Set<string>();
  return (link) => {
    if (visited.has(link)) return false;
    visited.add(link);
    return true;
  };
}
