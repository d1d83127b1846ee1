// What people look at: products against their usual, pages, searches and suggestions, first and last pages. All are
// ranked lists of a view's rows; what a row is called is its key.

import { at, bars, soon, windowed } from './draw.js';
import { question } from './wire.js';
import { number, span } from './words.js';

const ROWS = 8;
const found = new Map();
const lists = ['pages', 'searches', 'entries', 'exits'];

/** Takes the views that the job has. */
export function views(all) {
  found.clear();
  all.forEach((view, name) => found.set(name, view));
}

/** The words of a row's key; an empty one has to be called something. */
export const named = (row, key) => key.map(field => row[field]).filter(Boolean).join(' · ') || 'without a name';

function list(name) {
  const rows = at(`${name}-rows`);
  question(rows.closest('section'), () => (found.has(name) ? `/views/${name}?limit=${ROWS}` : null), answer => soon(() => {
    const [value] = answer.values;
    windowed(name, span(answer.window));
    bars(rows, answer.rows.map(row => {
      const label = named(row, answer.key);
      return { key: label, label, value: row[value], text: number(row[value]) };
    }));
  }));
}

function trending() {
  const rows = at('trending-rows');
  // More than are shown, since the job ranks by count and this list by how much it is over the usual.
  question(rows.closest('section'), () => (found.has('trending') ? '/views/trending?limit=40' : null), answer => soon(() => {
    windowed('trending', span(answer.window));
    const over = row => row.count - (row.usual ?? 0);
    const first = answer.rows.toSorted((a, b) => over(b) - over(a)).slice(0, ROWS);
    bars(rows, first.map(row => {
      const label = named(row, answer.key);
      const times = row.usual > 0 ? `${(row.count / row.usual).toFixed(1)} times the usual ${number(row.usual)}` : 'not usual here';
      const by = row.browsers === undefined ? '' : `, by ${number(row.browsers)}`;
      return { key: label, label, value: row.count, text: number(row.count), mark: row.usual ?? 0, note: times + by };
    }));
  }));
}

function suggestions() {
  const rows = at('suggestions-rows');
  const input = at('prefix');
  const typed = () => input.value.trim().toLowerCase();
  const path = () => (found.has('suggestions') && typed() ? `/views/suggestions?prefix=${encodeURIComponent(typed())}&limit=6` : null);
  const now = question(rows.closest('section'), path, answer => soon(() => {
    const value = answer.values[0];
    const key = answer.key.filter(field => field !== 'prefix');
    bars(rows, answer.rows.map(row => {
      const label = named(row, key);
      return { key: label, label, value: row[value], text: number(row[value]) };
    }), { nothing: 'Nobody searched for that lately.' });
  }));
  input.addEventListener('input', () => {
    if (!typed()) bars(rows, [], { nothing: '' });
    now();
  });
}

/** Starts to ask. */
export function start() {
  trending();
  lists.forEach(list);
  suggestions();
}
