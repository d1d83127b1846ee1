// What time stands on: each partition's tick and clock against the wall clock, the frontier and what holds it, the
// horizon; and the ledger, whose two sides must agree. How far something lies behind is drawn on a logarithmic scale,
// since milliseconds and hours both matter.

import { at, el, keep, say, soon } from './draw.js';
import { clock, date, duration, number } from './words.js';

const ROWS = 16;
const MARKS = [1_000, 10_000, 60_000, 600_000, 3_600_000, 86_400_000, 30 * 86_400_000, 365 * 86_400_000, 3_650 * 86_400_000];
const MARK_WORDS = ['1 s', '10 s', '1 min', '10 min', '1 h', '1 day', '30 days', '1 year', '10 years'];
let said = null;

/** Takes the progress of a second. */
export function progress(now) {
  said = now;
  soon(draw);
}

const stamp = ms => (Math.abs(said.wall - ms) < 43_200_000 ? clock(ms, 1) : `${date(ms)}, ${clock(ms, 1)}`);

function words() {
  const { frontier, horizon, wall } = said;
  if (!frontier?.tick) return 'Nothing is processed yet.';
  const since = frontier.since ? `, there for ${duration(wall - frontier.since)}` : '';
  return `The frontier is at ${stamp(frontier.tick)}${since}, ${duration(wall - frontier.tick)} behind the wall clock. ` +
    `What holds it is ${frontier.held_by}. Nothing before ${stamp(horizon)}, the horizon, can change any more.`;
}

function draw() {
  if (!said) return;
  const { wall, frontier, horizon, counts, tables } = said;
  say(at('time-words'), words());
  const least = said.partitions.toSorted((a, b) => (a.tick ?? Infinity) - (b.tick ?? Infinity));
  const rows = least.slice(0, ROWS).sort((a, b) => a.process - b.process || a.partition - b.partition);
  const most = Math.max(...rows.map(row => row.tick ?? 0));
  const behind = ms => Math.max(0, wall - ms);
  const furthest = Math.max(10_000, ...[frontier?.tick, horizon, ...rows.flatMap(row => [row.tick, row.clock])].filter(ms => ms > 0).map(behind));
  const end = MARKS.find(mark => mark >= furthest) ?? MARKS.at(-1);
  const place = ms => {
    const share = Math.log10(1 + behind(ms) / 100) / Math.log10(1 + end / 100);
    return `${(100 * (1 - Math.min(1, share))).toFixed(2)}%`;
  };

  const grid = at('clockwork');
  if (!grid.firstChild) {
    grid.append(
      el('div', { class: 'clock-scale', 'aria-hidden': 'true' }), el('ol', { class: 'clock-rows' }),
      el('div', { class: 'clock-lines', 'aria-hidden': 'true' }, el('i', { class: 'horizon' }, el('span', {}, 'horizon')), el('i', { class: 'frontier' }, el('span', {}, 'frontier'))),
      el('p', { class: 'note' }));
  }
  const [scale, list, lines, more] = grid.children;
  keep(scale, [0, ...MARKS.filter(mark => mark <= end)], mark => mark, () => el('span'), (tick, mark) => {
    say(tick, mark === 0 ? 'wall clock' : `−${MARK_WORDS[MARKS.indexOf(mark)]}`);
    tick.style.left = place(wall - mark);
  });
  keep(list, rows, row => `${row.process}/${row.partition}`, row =>
    el('li', {}, el('span', { class: 'clock-name' }, `${said.partitions.some(each => each.process) ? `process ${row.process}, ` : ''}partition ${row.partition}`),
      el('span', { class: 'clock-track', 'aria-hidden': 'true' }, el('i', { class: 'clock-bar' }), el('i', { class: 'clock-dot' })),
      el('span', { class: 'clock-words' })),
  (item, row) => {
    const [, track, hold] = item.children;
    const [bar, dot] = track.children;
    const closed = row.tick === null || row.tick === undefined;
    bar.style.left = closed ? '100%' : place(row.tick);
    dot.hidden = !(row.clock > 0);
    if (row.clock > 0) dot.style.left = place(row.clock);
    const lag = row.lag > 0 ? `, ${number(row.lag)} unread` : '';
    const late = closed ? '' : `${duration(behind(row.tick))} behind; `;
    const since = row.since ? ` for ${duration(behind(row.since))}` : '';
    say(hold, `${late}held by ${row.hold ?? 'nothing'}${since}${lag}`);
    item.classList.toggle('least', row.tick === frontier?.tick && row.tick < most);
  });
  const [back, front] = lines.children;
  back.hidden = !(horizon > 0);
  front.hidden = !(frontier?.tick > 0);
  if (horizon > 0) back.style.left = place(horizon);
  if (frontier?.tick > 0) front.style.left = place(frontier.tick);
  const hidden = said.partitions.length - rows.length;
  say(more, hidden > 0 ? `${number(hidden)} other partitions are no further behind than these.` : '');
  more.hidden = hidden <= 0;

  const sides = counts.tagged + counts.late + counts.rejected + counts.repeated;
  const onTheWay = counts.read - sides;
  say(at('ledger'), `${number(counts.read)} read = ${number(counts.tagged)} tagged + ${number(counts.late)} late + ${number(counts.rejected)} rejected + ${number(counts.repeated)} repeated` +
    (onTheWay === 0 ? '' : ` + ${number(onTheWay)} on their way`));
  const known = Object.entries(tables ?? {});
  say(at('tables'), known.length ? known.map(([name, { version, tick }]) => `${name}: version ${number(version)}, all that ended up to ${stamp(tick)}`).join('; ') : 'This job writes none.');
}

/** Nothing to ask: the progress says it all. */
export function start() {}
