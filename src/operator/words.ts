/** "1 file", "2 files" */
export const withNoun = (count: number, noun: string) => `${count} ${noun}${count === 1 ? "" : "s"}`;

/** how many names a message has at most */
const maxNames = 20;

/** "Encounter, Patient", or the first of many and how many more there are. */
export const listNames = (names: readonly string[]) =>
  names.length <= maxNames
    ? names.join(", ")
    : `${names.slice(0, maxNames).join(", ")} and ${names.length - maxNames} more`;
