// The top of the page: one sentence of what is so now, and the last ten minutes of measurements and open visits, drawn
// from the progress that this page has heard itself. What it has not heard is a gap, never a line.

import { at, onwidth, say, soon, svg, el } from './draw.js';
import { brief, ceiling, clock, duration, number } from './words.js';

const MINUTES = 10;
const POINTS = MINUTES * 60;
const LEFT = 44;
const BOTTOM = 20;

/** {wall, rate, open}, a second each; `rate` is null after a gap. */
const points = [];
let before = null;
let people = null;
let pointed = null;

const charts = [
  { id: 'rate', value: point => point.rate, kind: 'rate', words: 'Measurements a second' },
  { id: 'open', value: point => point.open, kind: 'open', words: 'Open visits' },
];

/** Takes the progress of a second. */
export function progress(said) {
  const passed = before ? said.wall - before.wall : 0;
  if (passed < 0) points.length = 0;
  if (passed < 500 && before && passed >= 0) return;
  const more = before ? said.counts.read - before.counts.read : -1;
  const rate = more < 0 || passed > 3_000 ? null : (1_000 * more) / passed;
  if (passed > 3_000) points.push({ wall: said.wall - 1, rate: null, open: null });
  points.push({ wall: said.wall, rate, open: said.open });
  while (points.length > POINTS) points.shift();
  before = said;
  soon(draw);
}

/** Takes the share of people, which a view knows. */
export function share(words) {
  people = words;
  soon(draw);
}

/** The rate of the last few seconds: one second's number jumps too much to be read. */
function rate() {
  const last = points.slice(-5).map(point => point.rate).filter(each => each !== null);
  return last.length ? last.reduce((sum, each) => sum + each, 0) / last.length : NaN;
}

function draw() {
  if (!before) return;
  const a_second = rate();
  const open = number(before.open);
  say(at('strip-open'), open);
  say(at('strip-rate'), brief(a_second));
  say(at('strip-people'), people ?? '–');
  const lede = at('now-h');
  if (lede.childElementCount === 0) {
    lede.replaceChildren(el('b'), ' visits are open. ', el('b'), ' measurements come in a second', el('span'), '.');
  }
  const [first, second, third] = lede.children;
  say(first, open);
  say(second, brief(a_second));
  say(third, people ? `, ${people} of visits are people’s` : '');
  charts.forEach(chart => drawChart(chart));
}

function drawChart({ id, value, kind, words }) {
  const place = at(`${id}-chart`);
  const width = place.clientWidth;
  if (width < 80 || points.length === 0) return;
  const height = place.clientHeight;
  const end = points.at(-1).wall;
  const past = end - points[0].wall;
  const minutes = [1, 2, 5, MINUTES].find(each => past <= each * 60_000) ?? MINUTES;
  const begin = end - minutes * 60_000;
  const known = points.filter(point => value(point) !== null && point.wall >= begin);
  const values = known.map(value);
  const sorted = values.toSorted((a, b) => a - b);
  const usual = sorted[sorted.length >> 1] ?? 0;
  const peak = sorted.at(-1) ?? 0;
  // A job that reads what was written before it started would make all that follows flat.
  const cut = kind === 'rate' && usual > 0 && peak > usual * 4;
  const top = ceiling(cut ? usual * 2 : peak);
  const x = wall => LEFT + ((wall - begin) / (end - begin)) * (width - LEFT - 6);
  const y = n => 8 + (1 - Math.min(n, top) / top) * (height - BOTTOM - 8);
  const floor = y(0);

  const grid = [0, 0.5, 1].map(part => [
    svg('line', { x1: LEFT, x2: width, y1: y(top * part), y2: y(top * part), class: part ? 'grid' : 'axis' }),
    svg('text', { x: LEFT - 8, y: y(top * part) + 4, class: 'tick-y' }, top * part < 10 && top % 2 ? String(top * part) : brief(top * part)),
  ]);
  const step = minutes === 1 ? 15_000 : minutes === 10 ? 120_000 : (minutes * 60_000) / 4;
  const room = width < 420 ? 2 : 1;
  const ticks = [];
  for (let n = 0; n * step * room < minutes * 60_000; n++) {
    const ago = n * step * room;
    const text = ago === 0 ? 'now' : `${duration(ago)}`;
    ticks.push(svg('text', { x: x(end - ago), y: height - 4, class: ago ? 'tick-x' : 'tick-x last' }, text));
  }

  // Runs without a gap, each a path of its own.
  const runs = [[]];
  for (const point of points) {
    if (value(point) === null) runs.push([]);
    else if (point.wall >= begin) runs.at(-1).push(point);
  }
  const paths = runs.filter(run => run.length).flatMap(run => {
    const line = run.map((point, n) => `${n ? 'L' : 'M'}${x(point.wall).toFixed(1)} ${y(value(point)).toFixed(1)}`).join('');
    const area = `${line}L${x(run.at(-1).wall).toFixed(1)} ${floor}L${x(run[0].wall).toFixed(1)} ${floor}Z`;
    return [svg('path', { d: area, class: `area ${kind}` }), svg('path', { d: line, class: `line ${kind}` })];
  });

  const read = known.findLast(point => pointed === null || point.wall <= pointed) ?? known.at(-1);
  const marks = read
    ? [
        pointed === null ? null : svg('line', { x1: x(read.wall), x2: x(read.wall), y1: 4, y2: floor, class: 'pointer' }),
        svg('circle', { cx: x(read.wall), cy: y(value(read)), r: 3.5, class: `dot ${kind}` }),
      ]
    : [];
  place.replaceChildren(
    svg('svg', { width, height: height, viewBox: `0 0 ${width} ${height}`, 'aria-hidden': 'true' }, ...grid.flat(), ...ticks, ...paths, ...marks),
  );
  place.scale = { begin, end, width };
  const peaked = cut ? `; peak of ${number(peak)} cut off` : `; peak ${number(peak)}`;
  const noted = pointed !== null && read ? `${number(value(read))} at ${clock(read.wall)}` : `${number(values.at(-1))} now${peaked}`;
  say(at(`${id}-note`), values.length ? noted : '');
  place.setAttribute('aria-label', `${words}, last ${duration(minutes * 60_000)}: ${number(values.at(-1))} now, between ${number(sorted[0])} and ${number(peak)}`);
}

/** Starts to listen to the pointer; one line goes through both charts. */
export function start() {
  for (const { id } of charts) {
    const place = at(`${id}-chart`);
    onwidth(place, draw);
    place.addEventListener('pointermove', event => {
      const scale = place.scale;
      if (!scale) return;
      const across = event.clientX - place.getBoundingClientRect().left - LEFT;
      pointed = scale.begin + (across / (scale.width - LEFT - 6)) * (scale.end - scale.begin);
      soon(draw);
    });
    place.addEventListener('pointerleave', () => {
      pointed = null;
      soon(draw);
    });
  }
}
