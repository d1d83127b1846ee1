// Who is there: people against robots, countries, and why visits ended.

import { at, bars, shares, soon, windowed } from './draw.js';
import { question } from './wire.js';
import { country, number, percent, span } from './words.js';
import { share } from './now.js';

const KINDS = { person: ['people', 'people'], robot: ['robots', 'robots'] };
const has = { agents: false, countries: false };
let agents = [];
let countries = null;
let ended = null;

/** Takes the views that the job has. */
export function views(found) {
  for (const name of Object.keys(has)) has[name] = found.has(name);
}

/** Takes the progress of a second. */
export function progress(said) {
  ended = said.visits.ended;
  soon(drawEnds);
}

function drawAgents() {
  const parts = agents.map(row => {
    const [label, kind] = KINDS[row.agent] ?? [row.agent || 'unknown', 'unknown'];
    return { key: row.agent, label, kind, value: row.count };
  });
  const order = ['people', 'robots', 'unknown'];
  parts.sort((a, b) => order.indexOf(a.kind) - order.indexOf(b.kind));
  shares(at('agents'), parts, (n, all) => `${percent(n, all)}`);
  const all = parts.reduce((sum, part) => sum + part.value, 0);
  const people = parts.find(part => part.kind === 'people');
  share(people && all ? percent(people.value, all) : null);
}

function drawCountries() {
  const { rows, window } = countries;
  const all = rows.reduce((sum, row) => sum + row.count, 0);
  windowed('countries', span(window));
  bars(at('countries'), rows.map(row => ({
    key: row.country ?? '', label: country(row.country), value: row.count, text: number(row.count), note: percent(row.count, all),
  })));
}

function drawEnds() {
  const reasons = [['inactivity', 'by inactivity', 'unknown'], ['length', 'by length', 'ink'], ['size', 'by size', 'robots']];
  shares(at('ends'), reasons.map(([key, label, kind]) => ({ key, label, kind, value: ended[key] ?? 0 })), number);
}

/** Starts to ask. The head of the page wants the share of people wherever the reader is. */
export function start() {
  question(null, () => (has.agents ? '/views/agents' : null), answer => {
    agents = answer.rows;
    soon(drawAgents);
  }, { every: 2_000 });
  question(at('who'), () => (has.countries ? '/views/countries?limit=8' : null), answer => {
    countries = answer;
    soon(drawCountries);
  });
}
