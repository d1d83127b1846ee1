// How far visits come, and what is put before people: a funnel with the rates between its steps, and rates with their
// intervals for banners, recommendations and the arms of experiments.

import { at, choice, el, keep, say, soon, windowed } from './draw.js';
import { question } from './wire.js';
import { ceiling, money, number, percent, span, wilson } from './words.js';
import { named } from './popular.js';

const ROWS = 6;
const KINDS = [['banners', 'Banners'], ['recommendations', 'Recommendations'], ['variants', 'Experiments']];
const OUTCOMES = [['clicked', 'a click'], ['carted', 'a cart'], ['ordered', 'an order']];
const found = new Map();
const answers = new Map();
let outcome = 'clicked';

/** Takes the views that the job has. */
export function views(all) {
  found.clear();
  all.forEach((view, name) => found.set(name, view));
  for (const [name] of KINDS) if (!found.has(name)) answers.delete(name);
  soon(drawChances);
}

// --- The funnel

/** "1 page shown" is step 1, `page shown`. */
function step(row) {
  const [, number, words] = /^(\d+)\s+(.*)$/.exec(row.step) ?? [null, '0', String(row.step)];
  return { number: Number(number), words: words.replaceAll('_', ' '), count: row.count };
}

function drawFunnel(answer) {
  const steps = answer.rows.map(step).sort((a, b) => a.number - b.number);
  const first = steps[0]?.count ?? 0;
  const share = each => (first ? each.count / first : 0);
  windowed('funnel', span(answer.window));
  keep(at('funnel-rows'), steps, each => `${each.number} ${each.words}`, () =>
    el('li', {},
      el('span', { class: 'funnel-rate' }, el('i', { 'aria-hidden': 'true' }), el('span')),
      el('span', { class: 'funnel-words' }), el('b', { class: 'funnel-count' }),
      el('span', { class: 'funnel-bar', 'aria-hidden': 'true' }, el('i'))),
  (item, each) => {
    const before = steps[steps.indexOf(each) - 1];
    const [rate, words, count, bar] = item.children;
    rate.hidden = !before;
    if (before) {
      say(rate.lastChild, `${percent(each.count, before.count)} go on`);
      const [wide, narrow] = [before, each].map(one => `${(share(one) * 100).toFixed(2)}%`);
      rate.firstChild.style.clipPath = `polygon(0 0, max(2px, ${wide}) 0, max(2px, ${narrow}) 100%, 0 100%)`;
    }
    say(words, each.words);
    say(count, number(each.count));
    bar.firstChild.style.width = `max(2px, ${(share(each) * 100).toFixed(2)}%)`;
  });
}

// --- Rates and intervals

const across = (share, top) => `${((100 * share) / top).toFixed(2)}%`;

function drawChances() {
  const kinds = KINDS.filter(([name]) => answers.has(name));
  keep(at('chances-rows'), kinds, ([name]) => name, ([, title]) =>
    el('div', { class: 'chance' }, el('h3', {}, title, ' ', el('span', { class: 'note' })),
      el('div', { class: 'scale', 'aria-hidden': 'true' }), el('ol', { class: 'whiskers' })),
  (item, [name]) => drawKind(item, answers.get(name)));
}

function drawKind(item, answer) {
  const [title, scale, list] = item.children;
  say(title.lastChild, span(answer.window));
  const rows = answer.rows.map(row => ({ row, label: named(row, answer.key), range: wilson(row[outcome], row.shown) }));
  const top = Math.min(1, ceiling(Math.max(0.001, ...rows.map(each => each.range?.[1] ?? 0))));
  keep(scale, [0, 0.5, 1], part => part, () => el('span'), (tick, part) => {
    say(tick, part === 0 ? '0' : `${Number((top * part * 100).toPrecision(2))}\u00a0%`);
    tick.style.left = `${part * 100}%`;
  });
  keep(list, rows, each => each.label, () =>
    el('li', {}, el('span', { class: 'bar-label' }), el('b', { class: 'bar-value' }),
      el('span', { class: 'whisker', 'aria-hidden': 'true' }, el('i', { class: 'whisker-range' }), el('i', { class: 'whisker-dot' })),
      el('span', { class: 'bar-note' })),
  (line, { row, label, range }) => {
    const [words, value, whisker, note] = line.children;
    say(words, label);
    words.title = label;
    say(value, percent(row[outcome], row.shown));
    const between = range ? `${percent(range[0], 1)} to ${percent(range[1], 1)}, ` : '';
    const earned = row.shown > 0 ? `; ${money((1_000 * row.revenue) / row.shown)} a thousand` : '';
    say(note, `${between}${number(row[outcome])} of ${number(row.shown)}${earned}`);
    const [bar, dot] = whisker.children;
    whisker.hidden = !range;
    if (!range) return;
    bar.style.left = across(range[0], top);
    bar.style.width = across(range[1] - range[0], top);
    dot.style.left = across(Math.min(row[outcome] / row.shown, top), top);
  });
}

/** Starts to ask. */
export function start() {
  choice(at('outcome'), 'outcome', OUTCOMES, chosen => {
    outcome = chosen;
    soon(drawChances);
  });
  question(at('funnel'), () => (found.has('funnel') ? '/views/funnel' : null), answer => soon(() => drawFunnel(answer)));
  for (const [name] of KINDS) {
    question(at('chances'), () => (found.has(name) ? `/views/${name}?limit=${ROWS}` : null), answer => {
      answers.set(name, answer);
      soon(drawChances);
    });
  }
}
