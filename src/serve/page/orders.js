// The newest orders, each with its chain of causes drawn as a path, what was not chosen beside it, and what each touch
// is credited with by each model; and all credits together.

import { at, bars, choice, el, keep, onwidth, say, soon, svg, windowed } from './draw.js';
import { question, stream } from './wire.js';
import { clock, duration, effect, many, money, span, the } from './words.js';

const ORDERS = 20;
const LOSERS = 4;
/** So many steps of a long path are drawn at its two ends, unless somebody wants all. */
const ENDS = [4, 11];
/** How long an order stays before the next one takes its place: long enough to be read. */
const STAY = 12_000;
const MODELS = [['first', 'First'], ['last', 'Last'], ['linear', 'Linear'], ['position', 'Position']];
const WORDS = {
  first: 'All of an order’s value goes to the first touch.',
  last: 'All of an order’s value goes to the last touch.',
  linear: 'Each touch gets as much as every other.',
  position: 'The first and the last touch get most, those between them share the rest.',
};

let model = 'first';
let credits = null;
let hasCredits = false;
/** Orders by their event: {order, corrected, times}. */
let kept = new Map();
let chosen = null;
let since = 0;

/** Takes the views that the job has. */
export function views(found) {
  hasCredits = found.has('credits');
}

// --- What is kept

/** What a correction changes: not whether it is final, nor when it was said. */
const said = order => JSON.stringify([order.value, order.chain, order.credits, order.whole]);

function take(order) {
  const old = kept.get(order.order_event);
  const changed = old && said(old.order) !== said(order);
  kept.set(order.order_event, {
    order,
    times: (old?.times ?? 0) + (changed ? 1 : 0),
    corrected: changed ? order.tick : old?.corrected,
  });
}

function newestFirst() {
  return [...kept.values()].sort((a, b) => b.order.time - a.order.time || (a.order.order_event < b.order.order_event ? 1 : -1));
}

function forget() {
  const all = newestFirst();
  kept = new Map(all.slice(0, ORDERS).map(each => [each.order.order_event, each]));
  const now = performance.now();
  const gone = !kept.has(chosen);
  if (kept.size && (gone || (at('orders-follow').checked && now - since > STAY && chosen !== all[0].order.order_event))) {
    chosen = all[0].order.order_event;
    since = now;
  }
  soon(drawOrders);
}

/** Goes to the newest order, and on. */
export function newest() {
  at('orders-follow').checked = true;
  chosen = null;
  forget();
}

function pick(event) {
  at('orders-follow').checked = false;
  chosen = event;
  soon(drawOrders);
}

// --- The list and the order

const state = ({ order, times }) => `${order.final ? 'final' : 'provisional'}${times ? ', corrected' : ''}`;

function drawOrders() {
  const all = newestFirst();
  keep(at('orders-list'), all, each => each.order.order_event, each =>
    el('li', {}, el('button', { type: 'button', onclick: () => pick(each.order.order_event) },
      el('time'), el('b'), el('span', { class: 'pick-more' }))),
  (item, each) => {
    const button = item.firstChild;
    const [time, value, more] = button.children;
    say(time, clock(each.order.time));
    say(value, money(each.order.value));
    say(more, `${each.order.country ?? '–'} · ${state(each)}`);
    button.setAttribute('aria-pressed', String(each.order.order_event === chosen));
    button.classList.toggle('faint', !each.order.final);
  });
  const shown = kept.get(chosen);
  if (shown) drawOrder(shown);
  else at('order').replaceChildren(el('p', { class: 'empty' }, 'No order yet.'));
}

let drawn = '';

function drawOrder(each) {
  const { order, times, corrected } = each;
  const now = JSON.stringify([order, times]);
  if (now === drawn) return;
  drawn = now;
  const from = [order.country ? `from ${the(order.country)}` : null, order.agent === 'person' ? null : `by a ${order.agent}`];
  const status = order.final
    ? el('span', { class: 'badge final' }, 'final')
    : el('span', { class: 'badge' }, 'provisional');
  const why = order.final ? 'its visit has ended; nothing can change it' : 'its visit is still open';
  at('order').replaceChildren(
    el('header', {},
      el('h3', {}, `${money(order.value)} `, el('span', { class: 'note' }, [`order ${order.order_id ?? '–'}`, ...from].filter(Boolean).join(', '))),
      el('p', { class: 'order-state' }, status, ` ${why}`,
        times ? el('span', { class: 'badge corrected' }, `corrected ${times === 1 ? 'once' : many(times, 'time')}`) : null,
        times ? ` the last at ${clock(corrected)}` : null,
        order.whole ? null : el('span', { class: 'badge corrected' }, 'not whole'),
        order.whole ? null : ' an earlier cause is not known')),
    path(order),
    table(order));
  soon(drawRails);
}

/** The chain from its root down to the order; what lies far between the two only when somebody wants it. */
function path(order, whole = false) {
  const nodes = order.chain.toReversed();
  const [first, last] = ENDS;
  const between = whole ? 0 : Math.max(0, nodes.length - first - last);
  const steps = nodes.map((node, n) => step(order, node, n === nodes.length - 1));
  if (between > 1) {
    const more = el('button', { type: 'button', onclick: () => {
      rail.replaceWith(path(order, true));
      soon(drawRails);
    } }, `${many(between, 'step')} between`);
    steps.splice(first, between, el('li', { class: 'node between' }, el('i', { class: 'node-stop', 'aria-hidden': 'true' }), el('div', { class: 'node-words' }, more)));
  }
  const rail = el('div', { class: 'rail' }, svg('svg', { class: 'rail-lines', 'aria-hidden': 'true' }), el('ol', {}, steps));
  return rail;
}

function step(order, node, goal) {
  const losers = node.losers ?? [];
  const more = losers.length - LOSERS;
  const named = ({ entity, entity_id }) => [entity, entity_id].filter(Boolean).join(' ');
  return el('li', { class: goal ? 'node goal' : 'node' },
    el('i', { class: 'node-stop', 'aria-hidden': 'true' }),
    el('div', { class: 'node-words' },
      el('span', { class: 'node-time' }, goal ? clock(node.time) : `${duration(order.time - node.time)} before`),
      el('span', { class: 'node-what' }, `${effect(node.effect)} `, el('b', {}, named(node))),
      node.reason ? el('span', { class: 'node-reason' }, node.reason) : null),
    losers.length
      ? el('ul', { class: 'losers', 'aria-label': 'Shown there and not chosen' },
          losers.slice(0, LOSERS).map(loser => el('li', {}, named(loser),
            loser.reason && loser.reason !== node.reason ? el('span', { class: 'loser-reason' }, ` ${loser.reason}`) : null)),
          more > 0 ? el('li', { class: 'loser-more' }, `and ${many(more, 'other')}`) : null)
      : null);
}

/** Lines need places: they are drawn when the words stand. A line forks to what was not chosen, and fades there. */
function drawRails() {
  for (const rail of document.querySelectorAll('.rail')) {
    const lines = rail.querySelector('svg');
    const box = rail.getBoundingClientRect();
    lines.setAttribute('width', box.width);
    lines.setAttribute('height', box.height);
    const stop = node => {
      const mark = node.querySelector('.node-stop').getBoundingClientRect();
      return { x: mark.left - box.left, y: mark.top - box.top };
    };
    const nodes = [...rail.querySelectorAll('.node')];
    const stops = nodes.map(stop);
    const drawn = [];
    stops.forEach((here, n) => {
      const above = stops[n - 1] ?? { x: here.x, y: Math.max(4, here.y - 30) };
      for (const loser of nodes[n].querySelectorAll('.losers li')) {
        const words = loser.getBoundingClientRect();
        const to = { x: words.left - box.left - 7, y: words.top - box.top + words.height / 2 };
        const fork = Math.min(here.y - 4, Math.max(above.y + 8, here.y - 26));
        drawn.push(svg('path', { class: 'fork', d: `M${here.x} ${fork}C${here.x} ${to.y} ${here.x} ${to.y} ${to.x} ${to.y}` }));
        drawn.push(svg('circle', { class: 'fork-end', cx: to.x, cy: to.y, r: 2 }));
      }
    });
    if (stops.length) {
      drawn.push(svg('path', { class: 'way', d: stops.map((p, n) => `${n ? 'L' : 'M'}${p.x} ${p.y}`).join('') }));
      stops.forEach((p, n) => {
        const { classList } = nodes[n];
        const goal = classList.contains('goal');
        drawn.push(svg('circle', { class: goal ? 'stop goal' : classList.contains('between') ? 'stop between' : 'stop', cx: p.x, cy: p.y, r: goal ? 7 : 5 }));
      });
    }
    lines.replaceChildren(...drawn);
  }
}

/** A touch that may go on in another line after its kind. */
const breakable = touch => touch.split(/(?<=[:/-])/).flatMap((part, n) => (n ? [el('wbr'), part] : [part]));

function table({ credits: touches, value }) {
  if (!touches?.length) return el('p', { class: 'note' }, 'Nothing is credited with it.');
  const sum = name => touches.reduce((total, touch) => total + touch[name], 0);
  const cell = name => touch => el('td', { class: touch[name] ? '' : 'zero' }, touch[name] ? money(touch[name]) : '0');
  return el('table', { class: 'credits' },
    el('caption', {}, 'Credits by model'),
    el('thead', {}, el('tr', {}, el('th', { scope: 'col' }, 'Touch'), MODELS.map(([, words]) => el('th', { scope: 'col' }, words)))),
    el('tbody', {}, touches.map(touch => el('tr', {},
      el('th', { scope: 'row' }, touch.touch === 'expired' ? 'causes that are gone' : breakable(touch.touch)),
      MODELS.map(([name]) => cell(name)(touch))))),
    el('tfoot', {}, el('tr', {}, el('th', { scope: 'row' }, `of ${money(value)}`), MODELS.map(([name]) => el('td', {}, money(sum(name)))))));
}

// --- All credits together

function drawCredits() {
  say(at('model-words'), WORDS[model]);
  if (!credits) return;
  windowed('credits', span(credits.window));
  const rows = credits.rows.toSorted((a, b) => b[model] - a[model]).slice(0, 10);
  const all = credits.rows.reduce((sum, row) => sum + row[model], 0);
  bars(at('credits-rows'), rows.map(row => ({
    key: row.touch, label: row.touch === 'expired' ? 'causes that are gone' : row.touch, value: row[model], text: money(row[model]),
    note: `on the way to ${many(row.orders, 'order')}${all > 0 ? `; ${Math.round((100 * row[model]) / all)} % of all` : ''}`,
  })));
}

/** Starts to listen and to ask. */
export function start() {
  stream(at('orders'), '/orders/changes', {
    snapshot({ orders }) {
      const old = kept;
      kept = new Map();
      for (const order of orders) {
        const before = old.get(order.order_event);
        if (before) kept.set(order.order_event, before);
        take(order);
      }
      forget();
    },
    order(order) {
      take(order);
      forget();
    },
  }, { refused: () => { at('orders').hidden = true; } });
  onwidth(at('order'), drawRails);
  at('orders-follow').addEventListener('change', forget);
  choice(at('model'), 'model', MODELS, name => {
    model = name;
    soon(drawCredits);
  });
  question(at('credits'), () => (hasCredits ? '/views/credits?limit=40' : null), answer => {
    credits = answer;
    soon(drawCredits);
  });
}
