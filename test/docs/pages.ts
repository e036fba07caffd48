/** Reads the project's Markdown pages, as far as their tests need it. */
import { existsSync, globSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

export const root = fileURLToPath(new URL("../../", import.meta.url));

export interface Block {
  page: string;
  /** line of the page on which the block begins, counted from 1 */
  line: number;
  language: string;
  /** text of the HTML comment before the block, e.g. `test: demo` */
  mark: string | undefined;
  text: string;
}

export interface Page {
  /** path relative to the root of the repository */
  path: string;
  text: string;
  blocks: Block[];
  /** the page without its blocks of code */
  prose: string;
  anchors: Set<string>;
}

/** The pages of the project: those below docs/ and those at the root. */
export const pages: Page[] = globSync(["*.md", "docs/**/*.md"], { cwd: root }).sort().map(readPage);

export const pageOf = (path: string): Page => pages.find((page) => page.path === path) ?? readPage(path);

function readPage(path: string): Page {
  const text = existsSync(root + path) ? readFileSync(root + path, "utf8") : "";
  const blocks: Block[] = [];
  const prose: string[] = [];
  let block: Block | undefined;
  let mark: string | undefined;
  for (const [index, line] of text.split("\n").entries()) {
    const fence = /^```(\w*)$/.exec(line);
    if (block && fence) {
      blocks.push(block);
      block = undefined;
    } else if (block) block.text += `${line}\n`;
    else if (fence) {
      block = { page: path, line: index + 2, language: fence[1]!, mark, text: "" };
      mark = undefined;
    } else {
      prose.push(line);
      mark = /^<!-- (.*) -->$/.exec(line)?.[1] ?? (line === "" ? mark : undefined);
    }
  }
  if (block) throw new Error(`${path}: the block at line ${block.line} has no end`);
  return { path, text, blocks, prose: prose.join("\n"), anchors: anchorsOf(prose) };
}

/** The anchors that GitHub makes of the headings. */
function anchorsOf(lines: readonly string[]): Set<string> {
  const anchors = new Set<string>();
  for (const line of lines) {
    const heading = /^#{1,6} (.*)$/.exec(line)?.[1];
    if (heading === undefined) continue;
    const plain = heading.replace(/\[([^\]]*)\]\([^)]*\)/g, "$1");
    const slug = plain
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\s_-]/gu, "")
      .trim()
      .replace(/\s/g, "-");
    for (let count = 0; ; count++) {
      const one = count === 0 ? slug : `${slug}-${count}`;
      if (anchors.has(one)) continue;
      anchors.add(one);
      break;
    }
  }
  return anchors;
}

/** The targets of a page's links, without those in code. */
export const linksOf = ({ prose }: Page): string[] =>
  [...prose.replace(/`[^`\n]*`/g, "").matchAll(/\]\(([^)\s]+)\)/g)].map(([, target]) => target!);

/** The inline code of a page. */
export const codeOf = ({ prose }: Page): string[] => [...prose.matchAll(/`([^`\n]+)`/g)].map(([, text]) => text!);
