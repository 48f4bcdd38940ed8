/**
 * What is checked on any page: accessibility, width, and how many acts a task takes.
 */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import type Axe from 'axe-core';
import type { Locator, Page } from 'playwright-core';

const axeSource = readFileSync(
  createRequire(import.meta.url).resolve('axe-core/axe.min.js'),
  'utf8',
);

declare global {
  interface Window {
    /** There once its source was evaluated. */
    axe: typeof Axe;
  }
}

/** Up to WCAG 2.2 AA, and axe's best practices. */
const AXE_TAGS = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];

/**
 * What axe finds wrong with the page as it is, a line for each element; by these `rules` only where they are given.
 * Evaluated, so the page's policy stays on.
 */
export async function axe(page: Page, rules?: string[]): Promise<string[]> {
  await page.evaluate(axeSource);
  const options: Axe.RunOptions = {
    runOnly: rules ? { type: 'rule', values: rules } : { type: 'tag', values: AXE_TAGS },
  };
  const { violations } = await page.evaluate((given) => window.axe.run(given), options);
  return violations.flatMap(({ id, impact, nodes }) =>
    nodes.map(({ target, failureSummary = '' }) => {
      const [, ...reasons] = failureSummary.split('\n');
      return `${id} (${impact}): ${target.join(' ')}: ${reasons.map((line) => line.trim()).join('; ')}`;
    }),
  );
}

/** Fails where the page can be scrolled sideways, and names what sticks out. */
export async function noSidewaysScroll(page: Page): Promise<void> {
  const stickingOut = await page.evaluate(() => {
    const { scrollWidth, clientWidth } = document.documentElement;
    if (scrollWidth <= clientWidth) return [];
    const elements = [...document.querySelectorAll('body *')].filter(
      (element) => element.getBoundingClientRect().right > clientWidth + 1,
    );
    return [
      `the page is ${scrollWidth} px wide in ${clientWidth} px`,
      ...elements.slice(0, 10).map((element) => {
        const { right } = element.getBoundingClientRect();
        return `to ${Math.round(right)} px: ${element.outerHTML.slice(0, 120)}`;
      }),
    ];
  });
  if (stickingOut.length > 0) throw new Error(stickingOut.join('\n'));
}

/** No act may need more moves of the focus than this. */
const MAX_MOVES = 12;

const MOVES = ['Tab', 'Shift+Tab', 'ArrowUp', 'ArrowDown', 'ArrowLeft', 'ArrowRight'];

/** Does a task and counts its acts, as the design counts them. */
export interface Acts {
  /** How many there were: a key, a click, a text typed or pasted, a choice. */
  readonly count: number;
  /** How often the focus was moved in all. */
  readonly moves: number;
  /** A key; one of Tab and the arrows is a move, and no act. */
  press(key: string): Promise<void>;
  click(target: Locator): Promise<void>;
  /** A text into what has the focus. */
  type(text: string): Promise<void>;
  /** By Control+V, from the clipboard. */
  paste(text: string): Promise<void>;
  /** Moves the focus to the target; no act. Fails where it takes too many moves. */
  moveTo(target: Locator, key?: string): Promise<void>;
  /** Moves to a button, a box or a toggle and presses it: one act. */
  choose(target: Locator, key?: string): Promise<void>;
}

export function pressCounted(page: Page): Acts {
  let count = 0;
  let moves = 0;
  let movesOfAct = 0;
  const act = () => {
    count += 1;
    movesOfAct = 0;
  };
  const move = async (key: string) => {
    moves += 1;
    movesOfAct += 1;
    if (movesOfAct > MAX_MOVES) throw new Error(`more than ${MAX_MOVES} moves for one act`);
    await page.keyboard.press(key);
  };
  const acts: Acts = {
    get count() {
      return count;
    },
    get moves() {
      return moves;
    },
    async press(key) {
      if (MOVES.includes(key)) return await move(key);
      act();
      await page.keyboard.press(key);
    },
    async click(target) {
      act();
      await target.click();
    },
    async type(text) {
      act();
      await page.keyboard.type(text);
    },
    async paste(text) {
      act();
      await page.evaluate((copied) => navigator.clipboard.writeText(copied), text);
      await page.keyboard.press('Control+V');
    },
    async moveTo(target, key = 'Tab') {
      const hasFocus = () => target.evaluate((element) => element === document.activeElement);
      while (!(await hasFocus())) await move(key);
    },
    async choose(target, key = 'Space') {
      await acts.moveTo(target);
      await acts.press(key);
    },
  };
  return acts;
}
